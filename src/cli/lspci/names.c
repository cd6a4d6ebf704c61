/*
 * names.c - classes and capabilities by name (PCI Code and ID Assignment Specification 1.11).
 */
#include "cli/lspci/names.h"
#include <stddef.h>

struct name {
    uint32_t number;
    const char *name;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *find(const struct name *names, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].number == number)
            return names[i].name;
    return NULL;
}

static const struct name bases[] = {
    { 0x00, "Unclassified device" },
    { 0x01, "Mass storage controller" },
    { 0x02, "Network controller" },
    { 0x03, "Display controller" },
    { 0x04, "Multimedia controller" },
    { 0x05, "Memory controller" },
    { 0x06, "Bridge" },
    { 0x07, "Communication controller" },
    { 0x08, "Generic system peripheral" },
    { 0x09, "Input device controller" },
    { 0x0a, "Docking station" },
    { 0x0b, "Processor" },
    { 0x0c, "Serial bus controller" },
    { 0x0d, "Wireless controller" },
    { 0x0e, "Intelligent controller" },
    { 0x0f, "Satellite communications controller" },
    { 0x10, "Encryption controller" },
    { 0x11, "Signal processing controller" },
    { 0x12, "Processing accelerators" },
    { 0x13, "Non-Essential Instrumentation" },
    { 0x40, "Coprocessor" },
    { 0xff, "Unassigned class" },
};

static const struct name classes[] = {
    { 0x0000, "Non-VGA unclassified device" },
    { 0x0001, "VGA compatible unclassified device" },
    { 0x0100, "SCSI storage controller" },
    { 0x0101, "IDE interface" },
    { 0x0104, "RAID bus controller" },
    { 0x0105, "ATA controller" },
    { 0x0106, "SATA controller" },
    { 0x0107, "Serial Attached SCSI controller" },
    { 0x0108, "Non-Volatile memory controller" },
    { 0x0109, "Universal Flash Storage controller" },
    { 0x0180, "Mass storage controller" },
    { 0x0200, "Ethernet controller" },
    { 0x0207, "Infiniband controller" },
    { 0x0208, "Fabric controller" },
    { 0x0280, "Network controller" },
    { 0x0300, "VGA compatible controller" },
    { 0x0302, "3D controller" },
    { 0x0380, "Display controller" },
    { 0x0400, "Multimedia video controller" },
    { 0x0401, "Multimedia audio controller" },
    { 0x0403, "Audio device" },
    { 0x0480, "Multimedia controller" },
    { 0x0500, "RAM memory" },
    { 0x0501, "FLASH memory" },
    { 0x0502, "CXL" },
    { 0x0580, "Memory controller" },
    { 0x0600, "Host bridge" },
    { 0x0601, "ISA bridge" },
    { 0x0604, "PCI bridge" },
    { 0x0680, "Bridge" },
    { 0x0700, "Serial controller" },
    { 0x0701, "Parallel controller" },
    { 0x0702, "Multiport serial controller" },
    { 0x0703, "Modem" },
    { 0x0780, "Communication controller" },
    { 0x0800, "PIC" },
    { 0x0801, "DMA controller" },
    { 0x0802, "Timer" },
    { 0x0803, "RTC" },
    { 0x0804, "PCI Hot-plug controller" },
    { 0x0805, "SD Host controller" },
    { 0x0806, "IOMMU" },
    { 0x0880, "System peripheral" },
    { 0x0900, "Keyboard controller" },
    { 0x0902, "Mouse controller" },
    { 0x0980, "Input device controller" },
    { 0x0b40, "Co-processor" },
    { 0x0c03, "USB controller" },
    { 0x0c04, "Fibre Channel" },
    { 0x0c05, "SMBus" },
    { 0x0c07, "IPMI Interface" },
    { 0x0c80, "Serial bus controller" },
    { 0x0d80, "Wireless controller" },
    { 0x1000, "Network and computing encryption device" },
    { 0x1010, "Entertainment encryption device" },
    { 0x1080, "Encryption controller" },
    { 0x1100, "DPIO module" },
    { 0x1180, "Signal processing controller" },
    { 0x1200, "Processing accelerators" },
};

static const struct name interfaces[] = { /* class << 8 | interface */
    { 0x010601, "AHCI 1.0" },
    { 0x010801, "NVMHCI" },
    { 0x010802, "NVM Express" },
    { 0x030000, "VGA controller" },
    { 0x060400, "Normal decode" },
    { 0x070000, "8250" },
    { 0x070001, "16450" },
    { 0x070002, "16550" },
    { 0x070003, "16650" },
    { 0x070004, "16750" },
    { 0x070005, "16850" },
    { 0x070006, "16950" },
    { 0x080501, "Arasan" },
    { 0x0c0300, "UHCI" },
    { 0x0c0310, "OHCI" },
    { 0x0c0320, "EHCI" },
    { 0x0c0330, "XHCI" },
    { 0x0c0340, "USB4 Host Interface" },
};

static const struct name capabilities[] = {
    { 0x01, "Power Management" },
    { 0x02, "AGP" },
    { 0x03, "Vital Product Data" },
    { 0x04, "Slot ID" },
    { 0x05, "MSI" },
    { 0x06, "CompactPCI hot-swap" },
    { 0x07, "PCI-X" },
    { 0x08, "HyperTransport" },
    { 0x09, "Vendor Specific Information" },
    { 0x0a, "Debug port" },
    { 0x0b, "CompactPCI central resource control" },
    { 0x0c, "Hot-plug capable" },
    { 0x0d, "Subsystem" },
    { 0x0e, "AGP3" },
    { 0x0f, "Secure device" },
    { 0x10, "Express" },
    { 0x11, "MSI-X" },
    { 0x12, "SATA HBA" },
    { 0x13, "PCI Advanced Features" },
    { 0x14, "Enhanced Allocation" },
    { 0x15, "Flattening Portal Bridge" },
};

static const struct name extended_capabilities[] = {
    { 0x00, "Null" },
    { 0x01, "Advanced Error Reporting" },
    { 0x02, "Virtual Channel" },
    { 0x03, "Device Serial Number" },
    { 0x04, "Power Budgeting" },
    { 0x05, "Root Complex Link" },
    { 0x06, "Root Complex Internal Link" },
    { 0x07, "Root Complex Event Collector" },
    { 0x08, "Multi-Function Virtual Channel" },
    { 0x09, "Virtual Channel" },
    { 0x0a, "Root Complex Register Block" },
    { 0x0b, "Vendor Specific Information" },
    { 0x0c, "Configuration Access Correlation" },
    { 0x0d, "Access Control Services" },
    { 0x0e, "Alternative Routing-ID Interpretation (ARI)" },
    { 0x0f, "Address Translation Service (ATS)" },
    { 0x10, "Single Root I/O Virtualization (SR-IOV)" },
    { 0x11, "Multi-Root I/O Virtualization" },
    { 0x12, "Multicast" },
    { 0x13, "Page Request Interface (PRI)" },
    { 0x15, "Physical Resizable BAR" },
    { 0x16, "Dynamic Power Allocation" },
    { 0x17, "Transaction Processing Hints" },
    { 0x18, "Latency Tolerance Reporting" },
    { 0x19, "Secondary PCI Express" },
    { 0x1a, "Protocol Multiplexing" },
    { 0x1b, "Process Address Space ID (PASID)" },
    { 0x1c, "LN Requester" },
    { 0x1d, "Downstream Port Containment" },
    { 0x1e, "L1 PM Substates" },
    { 0x1f, "Precision Time Measurement" },
    { 0x20, "PCI Express over M_PHY" },
    { 0x21, "FRS Queueing" },
    { 0x22, "Readiness Time Reporting" },
    { 0x23, "Designated Vendor-Specific" },
    { 0x24, "VF Resizable BAR" },
    { 0x25, "Data Link Feature" },
    { 0x26, "Physical Layer 16.0 GT/s" },
    { 0x27, "Lane Margining at the Receiver" },
    { 0x28, "Hierarchy ID" },
    { 0x29, "Native PCIe Enclosure Management" },
    { 0x2a, "Physical Layer 32.0 GT/s" },
    { 0x2b, "Alternate Protocol" },
    { 0x2c, "System Firmware Intermediary" },
    { 0x2d, "Shadow Functions" },
    { 0x2e, "Data Object Exchange" },
};

const char *name_of_class(uint16_t class)
{
    const char *name = find(classes, COUNT(classes), class);
    if (!name)
        name = find(bases, COUNT(bases), class >> 8);
    return name ? name : "Class";
}

const char *name_of_interface(uint16_t class, uint8_t interface)
{
    return find(interfaces, COUNT(interfaces), (uint32_t)class << 8 | interface);
}

const char *name_of_capability(uint16_t id, bool extended)
{
    if (extended)
        return find(extended_capabilities, COUNT(extended_capabilities), id);
    return find(capabilities, COUNT(capabilities), id);
}

/*
 * express.c - the PCI Express capability as text (PCI Express Base Specification 4.0, 7.5.3).
 *
 * Endpoints in full. A vfio-user server is one: ports and bridges get no more than their name.
 */
#include "cli/lspci/lspci.h"
#include <linux/pci_regs.h>

enum {
    V1_ENDPOINT_SIZE = PCI_EXP_RTCTL - 8, /* up to the slot registers, which endpoints lack */
    V2_ENDPOINT_SIZE = PCI_EXP_LNKSTA2 + 2,
};

static uint32_t bits(uint32_t value, uint32_t mask)
{
    return (value & mask) / (mask & -mask);
}

static bool is_endpoint(uint32_t type)
{
    return type == PCI_EXP_TYPE_ENDPOINT || type == PCI_EXP_TYPE_LEG_END ||
           type == PCI_EXP_TYPE_RC_END;
}

static const char *l0s_latency(uint32_t value)
{
    static const char *const words[] = { "<64ns", "<128ns", "<256ns", "<512ns", "<1us", "<2us",
                                         "<4us", "unlimited" };
    return words[value & 7];
}

static const char *l1_latency(uint32_t value)
{
    static const char *const words[] = { "<1us", "<2us", "<4us", "<8us", "<16us", "<32us",
                                         "<64us", "unlimited" };
    return words[value & 7];
}

static const char *link_speed(uint32_t value, const char *other)
{
    static const char *const words[] = { NULL, "2.5GT/s", "5GT/s", "8GT/s", "16GT/s", "32GT/s",
                                         "64GT/s" };
    return LSPCI_WORD(words, value, other);
}

static void print_slot_power(FILE *out, uint32_t cap)
{
    static const double scales[] = { 1, 0.1, 0.01, 0.001 };
    fprintf(out, " SlotPowerLimit %gW",
            bits(cap, PCI_EXP_DEVCAP_PWR_VAL) * scales[bits(cap, PCI_EXP_DEVCAP_PWR_SCL)]);
}

static void print_device(FILE *out, const struct config *c, uint32_t at, uint32_t type)
{
    uint32_t cap = config_u32(c, at + PCI_EXP_DEVCAP);
    uint16_t control = config_u16(c, at + PCI_EXP_DEVCTL);
    uint16_t status = config_u16(c, at + PCI_EXP_DEVSTA);
    bool has_link = type != PCI_EXP_TYPE_RC_END;

    fprintf(out, "\t\tDevCap:\tMaxPayload %d bytes, PhantFunc %d",
            128 << bits(cap, PCI_EXP_DEVCAP_PAYLOAD), (1 << bits(cap, PCI_EXP_DEVCAP_PHANTOM)) - 1);
    if (has_link)
        fprintf(out, ", Latency L0s %s, L1 %s", l0s_latency(bits(cap, PCI_EXP_DEVCAP_L0S)),
                l1_latency(bits(cap, PCI_EXP_DEVCAP_L1)));
    fprintf(out, "\n\t\t\t");
    LSPCI_FLAGS(out, cap, { "ExtTag", PCI_EXP_DEVCAP_EXT_TAG });
    if (has_link) {
        fputc(' ', out);
        LSPCI_FLAGS(out, cap, { "AttnBtn", PCI_EXP_DEVCAP_ATN_BUT },
                    { "AttnInd", PCI_EXP_DEVCAP_ATN_IND }, { "PwrInd", PCI_EXP_DEVCAP_PWR_IND });
    }
    fputc(' ', out);
    LSPCI_FLAGS(out, cap, { "RBE", PCI_EXP_DEVCAP_RBER }, { "FLReset", PCI_EXP_DEVCAP_FLR });
    if (type == PCI_EXP_TYPE_ENDPOINT)
        print_slot_power(out, cap);

    fprintf(out, "\n\t\tDevCtl:\t");
    LSPCI_FLAGS(out, control, { "CorrErr", PCI_EXP_DEVCTL_CERE },
                { "NonFatalErr", PCI_EXP_DEVCTL_NFERE }, { "FatalErr", PCI_EXP_DEVCTL_FERE },
                { "UnsupReq", PCI_EXP_DEVCTL_URRE });
    fprintf(out, "\n\t\t\t");
    LSPCI_FLAGS(out, control, { "RlxdOrd", PCI_EXP_DEVCTL_RELAX_EN },
                { "ExtTag", PCI_EXP_DEVCTL_EXT_TAG }, { "PhantFunc", PCI_EXP_DEVCTL_PHANTOM },
                { "AuxPwr", PCI_EXP_DEVCTL_AUX_PME }, { "NoSnoop", PCI_EXP_DEVCTL_NOSNOOP_EN });
    if (cap & PCI_EXP_DEVCAP_FLR) {
        fputc(' ', out);
        LSPCI_FLAGS(out, control, { "FLReset", PCI_EXP_DEVCTL_BCR_FLR });
    }
    fprintf(out, "\n\t\t\tMaxPayload %d bytes, MaxReadReq %d bytes\n",
            128 << bits(control, PCI_EXP_DEVCTL_PAYLOAD),
            128 << bits(control, PCI_EXP_DEVCTL_READRQ));

    fprintf(out, "\t\tDevSta:\t");
    LSPCI_FLAGS(out, status, { "CorrErr", PCI_EXP_DEVSTA_CED },
                { "NonFatalErr", PCI_EXP_DEVSTA_NFED }, { "FatalErr", PCI_EXP_DEVSTA_FED },
                { "UnsupReq", PCI_EXP_DEVSTA_URD }, { "AuxPwr", PCI_EXP_DEVSTA_AUXPD },
                { "TransPend", PCI_EXP_DEVSTA_TRPND });
    fputc('\n', out);
}

static void print_link_cap(FILE *out, uint32_t cap)
{
    static const char *const aspm[] = { "not supported", "L0s", "L1", "L0s L1" };
    uint32_t states = bits(cap, PCI_EXP_LNKCAP_ASPMS);
    fprintf(out, "\t\tLnkCap:\tPort #%u, Speed %s, Width x%u, ASPM %s",
            bits(cap, PCI_EXP_LNKCAP_PN), link_speed(bits(cap, PCI_EXP_LNKCAP_SLS), "unknown"),
            bits(cap, PCI_EXP_LNKCAP_MLW), aspm[states]);
    if (states)
        fprintf(out, ", Exit Latency ");
    if (states & 1)
        fprintf(out, "L0s %s", l0s_latency(bits(cap, PCI_EXP_LNKCAP_L0SEL)));
    if (states & 2)
        fprintf(out, "%sL1 %s", states & 1 ? ", " : "",
                l1_latency(bits(cap, PCI_EXP_LNKCAP_L1EL)));
    fprintf(out, "\n\t\t\t");
    LSPCI_FLAGS(out, cap, { "ClockPM", PCI_EXP_LNKCAP_CLKPM },
                { "Surprise", PCI_EXP_LNKCAP_SDERC }, { "LLActRep", PCI_EXP_LNKCAP_DLLLARC },
                { "BwNot", PCI_EXP_LNKCAP_LBNC }, { "ASPMOptComp", 1u << 22 });
    fputc('\n', out);
}

/* What a link runs at, beside what it could. */
static const char *compared(uint32_t value, uint32_t cap)
{
    return value == cap ? "" : value < cap ? " (downgraded)" : " (overdriven)";
}

static void print_link(FILE *out, const struct config *c, uint32_t at)
{
    static const char *const aspm[] = { "Disabled", "L0s Enabled", "L1 Enabled",
                                        "L0s L1 Enabled" };
    uint32_t cap = config_u32(c, at + PCI_EXP_LNKCAP);
    uint16_t control = config_u16(c, at + PCI_EXP_LNKCTL);
    uint16_t status = config_u16(c, at + PCI_EXP_LNKSTA);
    print_link_cap(out, cap);

    fprintf(out, "\t\tLnkCtl:\tASPM %s; RCB %d bytes, ", aspm[bits(control, PCI_EXP_LNKCTL_ASPMC)],
            control & PCI_EXP_LNKCTL_RCB ? 128 : 64);
    LSPCI_FLAGS(out, control, { "Disabled", PCI_EXP_LNKCTL_LD },
                { "CommClk", PCI_EXP_LNKCTL_CCC });
    fprintf(out, "\n\t\t\t");
    LSPCI_FLAGS(out, control, { "ExtSynch", PCI_EXP_LNKCTL_ES },
                { "ClockPM", PCI_EXP_LNKCTL_CLKREQ_EN }, { "AutWidDis", PCI_EXP_LNKCTL_HAWD },
                { "BWInt", PCI_EXP_LNKCTL_LBMIE }, { "AutBWInt", PCI_EXP_LNKCTL_LABIE });

    uint32_t speed = bits(status, PCI_EXP_LNKSTA_CLS);
    uint32_t width = bits(status, PCI_EXP_LNKSTA_NLW);
    fprintf(out, "\n\t\tLnkSta:\tSpeed %s%s, Width x%u%s\n\t\t\t", link_speed(speed, "unknown"),
            compared(speed, bits(cap, PCI_EXP_LNKCAP_SLS)), width,
            compared(width, bits(cap, PCI_EXP_LNKCAP_MLW)));
    LSPCI_FLAGS(out, status, { "TrErr", 1u << 10 }, { "Train", PCI_EXP_LNKSTA_LT },
                { "SlotClk", PCI_EXP_LNKSTA_SLC }, { "DLActive", PCI_EXP_LNKSTA_DLLLA },
                { "BWMgmt", PCI_EXP_LNKSTA_LBMS }, { "ABWMgmt", PCI_EXP_LNKSTA_LABS });
    fputc('\n', out);
}

static bool has_memory_bar(const struct config *c)
{
    static const uint64_t unknown[CONFIG_ADDRESSES];
    struct config_bar bars[CONFIG_ADDRESSES];
    config_bars(c, unknown, bars);
    for (int i = 0; i < CONFIG_BARS; i++)
        if (bars[i].present && !bars[i].io)
            return true;
    return false;
}

static void print_device2_cap(FILE *out, const struct config *c, uint32_t at, uint32_t type)
{
    static const char *const ranges[] = {
        [0] = "Not Supported", [1] = "Range A", [2] = "Range B", [3] = "Range AB",
        [6] = "Range BC", [7] = "Range ABC", [14] = "Range BCD", [15] = "Range ABCD",
    };
    static const char *const obff[] = { "Not Supported", "Via message", "Via WAKE#",
                                        "Via message/WAKE#" };
    static const char *const reduction[] = { "Not Supported", "Dev Specific",
                                             "Form Factor Dev Specific", "Reserved" };
    uint32_t cap = config_u32(c, at + PCI_EXP_DEVCAP2);
    fprintf(out, "\t\tDevCap2: Completion Timeout: %s, ",
            LSPCI_WORD(ranges, cap & 0xf, "Unknown"));
    LSPCI_FLAGS(out, cap, { "TimeoutDis", PCI_EXP_DEVCAP2_COMP_TMOUT_DIS },
                { "NROPrPrP", 1u << 10 }, { "LTR", PCI_EXP_DEVCAP2_LTR });
    fprintf(out, "\n\t\t\t ");
    LSPCI_FLAGS(out, cap, { "10BitTagComp", 1u << 16 }, { "10BitTagReq", 1u << 17 });
    fprintf(out, " OBFF %s, ", obff[bits(cap, PCI_EXP_DEVCAP2_OBFF_MASK)]);
    LSPCI_FLAGS(out, cap, { "ExtFmt", 1u << 20 }, { "EETLPPrefix", PCI_EXP_DEVCAP2_EE_PREFIX });
    if (cap & PCI_EXP_DEVCAP2_EE_PREFIX) {
        uint32_t most = bits(cap, 3u << 22);
        fprintf(out, ", MaxEETLPPrefixes %u", most ? most : 4);
    }
    fprintf(out, "\n\t\t\t EmergencyPowerReduction %s, ", reduction[bits(cap, 3u << 24)]);
    LSPCI_FLAGS(out, cap, { "EmergencyPowerReductionInit", 1u << 26 });
    fprintf(out, "\n\t\t\t ");
    LSPCI_FLAGS(out, cap, { "FRS", 1u << 31 });
    if (type == PCI_EXP_TYPE_ENDPOINT) {
        fputc(' ', out);
        LSPCI_FLAGS(out, cap, { "TPHComp", 1u << 12 }, { "ExtTPHComp", 1u << 13 });
    }
    fputc('\n', out);
    if (!has_memory_bar(c))
        return;
    fprintf(out, "\t\t\t AtomicOpsCap: ");
    LSPCI_FLAGS(out, cap, { "32bit", PCI_EXP_DEVCAP2_ATOMIC_COMP32 },
                { "64bit", PCI_EXP_DEVCAP2_ATOMIC_COMP64 },
                { "128bitCAS", PCI_EXP_DEVCAP2_ATOMIC_COMP128 });
    fputc('\n', out);
}

static void print_device2_control(FILE *out, const struct config *c, uint32_t at)
{
    static const char *const timeouts[] = {
        [0] = "50us to 50ms", [1] = "50us to 100us", [2] = "1ms to 10ms", [5] = "16ms to 55ms",
        [6] = "65ms to 210ms", [9] = "260ms to 900ms", [10] = "1s to 3.5s", [13] = "4s to 13s",
        [14] = "17s to 64s",
    };
    static const char *const obff[] = { "Disabled", "Via message A", "Via message B",
                                        "Via WAKE#" };
    uint16_t control = config_u16(c, at + PCI_EXP_DEVCTL2);
    fprintf(out, "\t\tDevCtl2: Completion Timeout: %s, ",
            LSPCI_WORD(timeouts, control & 0xf, "Unknown"));
    LSPCI_FLAGS(out, control, { "TimeoutDis", PCI_EXP_DEVCTL2_COMP_TMOUT_DIS },
                { "LTR", PCI_EXP_DEVCTL2_LTR_EN }, { "10BitTagReq", 1u << 12 });
    /* lspci ends the line so for every device that is no port. */
    fprintf(out, " OBFF %s,\n\t\t\t AtomicOpsCtl: ", obff[bits(control, 0x6000)]);
    LSPCI_FLAGS(out, control, { "ReqEn", PCI_EXP_DEVCTL2_ATOMIC_REQ });
    fputc('\n', out);
}

static const char *link_speeds(uint32_t vector)
{
    return vector & 0x40 ? "RsvdP"
         : vector & 0x20 ? "2.5-64GT/s"
         : vector & 0x10 ? "2.5-32GT/s"
         : vector & 0x08 ? "2.5-16GT/s"
         : vector & 0x04 ? "2.5-8GT/s"
         : vector & 0x02 ? "2.5-5GT/s"
         : vector & 0x01 ? "2.5GT/s"
                         : "Unknown";
}

static void print_link2_control(FILE *out, uint16_t control)
{
    static const char *const margins[] = {
        "Normal Operating Range",
        "800-1200mV(full-swing)/400-700mV(half-swing)",
        "200-400mV(full-swing)/100-200mV(half-swing)",
        "200-400mV(full-swing)/100-200mV(half-swing)",
        "200-400mV(full-swing)/100-200mV(half-swing)",
        "200-400mV(full-swing)/100-200mV(half-swing)",
    };
    static const char *const presets[] = {
        "-6dB de-emphasis, 0dB preshoot",     "-3.5dB de-emphasis, 0dB preshoot",
        "-4.4dB de-emphasis, 0dB preshoot",   "-2.5dB de-emphasis, 0dB preshoot",
        "0dB de-emphasis, 0dB preshoot",      "0dB de-emphasis, 1.9dB preshoot",
        "0dB de-emphasis, 2.5dB preshoot",    "-6.0dB de-emphasis, 3.5dB preshoot",
        "-3.5dB de-emphasis, 3.5dB preshoot", "0dB de-emphasis, 3.5dB preshoot",
    };
    uint32_t speed = control & 0xf;
    fprintf(out, "\t\tLnkCtl2: Target Link Speed: %s, ",
            speed ? link_speed(speed, "Unknown") : "2.5GT/s");
    LSPCI_FLAGS(out, control, { "EnterCompliance", 1u << 4 }, { "SpeedDis", 1u << 5 });
    fprintf(out, "\n\t\t\t Transmit Margin: %s, ",
            LSPCI_WORD(margins, bits(control, 7u << 7), "Unknown"));
    LSPCI_FLAGS(out, control, { "EnterModifiedCompliance", 1u << 10 },
                { "ComplianceSOS", 1u << 11 });
    fprintf(out, "\n\t\t\t Compliance Preset/De-emphasis: %s\n",
            LSPCI_WORD(presets, bits(control, 0xf000), "Unknown"));
}

static void print_link2(FILE *out, const struct config *c, uint32_t at)
{
    static const char *const crosslink[] = { "unsupported", "Upstream Port", "Downstream Port",
                                             "incomplete" };
    uint32_t cap = config_u32(c, at + PCI_EXP_LNKCAP2);
    uint16_t status = config_u16(c, at + PCI_EXP_LNKSTA2);
    fprintf(out, "\t\tLnkCap2: Supported Link Speeds: %s, ", link_speeds(bits(cap, 0xfe)));
    LSPCI_FLAGS(out, cap, { "Crosslink", PCI_EXP_LNKCAP2_CROSSLINK }, { "Retimer", 1u << 23 },
                { "2Retimers", 1u << 24 }, { "DRS", 1u << 31 });
    fputc('\n', out);
    print_link2_control(out, config_u16(c, at + PCI_EXP_LNKCTL2));

    fprintf(out, "\t\tLnkSta2: Current De-emphasis Level: %s, ", status & 1 ? "-3.5dB" : "-6dB");
    LSPCI_FLAGS(out, status, { "EqualizationComplete", 1u << 1 },
                { "EqualizationPhase1", 1u << 2 });
    fprintf(out, "\n\t\t\t ");
    LSPCI_FLAGS(out, status, { "EqualizationPhase2", 1u << 3 }, { "EqualizationPhase3", 1u << 4 },
                { "LinkEqualizationRequest", 1u << 5 });
    fprintf(out, "\n\t\t\t ");
    LSPCI_FLAGS(out, status, { "Retimer", 1u << 6 }, { "2Retimers", 1u << 7 });
    fprintf(out, " CrosslinkRes: %s\n", crosslink[bits(status, 3u << 8)]);
}

void lspci_express(FILE *out, const struct config *c, uint32_t at)
{
    static const char *const types[] = {
        [PCI_EXP_TYPE_ENDPOINT] = "Endpoint",
        [PCI_EXP_TYPE_LEG_END] = "Legacy Endpoint",
        [PCI_EXP_TYPE_ROOT_PORT] = "Root Port",
        [PCI_EXP_TYPE_UPSTREAM] = "Upstream Port",
        [PCI_EXP_TYPE_DOWNSTREAM] = "Downstream Port",
        [PCI_EXP_TYPE_PCI_BRIDGE] = "PCI-Express to PCI/PCI-X Bridge",
        [PCI_EXP_TYPE_PCIE_BRIDGE] = "PCI/PCI-X to PCI-Express Bridge",
        [PCI_EXP_TYPE_RC_END] = "Root Complex Integrated Endpoint",
        [PCI_EXP_TYPE_RC_EC] = "Root Complex Event Collector",
    };
    uint16_t flags = config_u16(c, at + PCI_EXP_FLAGS);
    uint32_t version = bits(flags, PCI_EXP_FLAGS_VERS);
    uint32_t type = bits(flags, PCI_EXP_FLAGS_TYPE);
    fprintf(out, "Express (v%u) ", version);
    const char *name = LSPCI_WORD(types, type, NULL);
    if (name)
        fprintf(out, "%s", name);
    else
        fprintf(out, "Unknown type %u", type);
    fprintf(out, ", MSI %02x\n", bits(flags, PCI_EXP_FLAGS_IRQ));
    if (!is_endpoint(type))
        return;

    if (!config_has(c, at, version < 2 ? V1_ENDPOINT_SIZE : V2_ENDPOINT_SIZE)) {
        fprintf(out, "\t\t<unreadable>\n");
        return;
    }
    print_device(out, c, at, type);
    if (type != PCI_EXP_TYPE_RC_END)
        print_link(out, c, at);
    if (version < 2)
        return;
    print_device2_cap(out, c, at, type);
    print_device2_control(out, c, at);
    if (type != PCI_EXP_TYPE_RC_END)
        print_link2(out, c, at);
}

"""The rows of the tables of the vfio-user specification (docs/interop/vfio-user.rst of QEMU), by section.

`outboard check --list` cites them; test_check.py compares.
"""

ROWS = {
    "Commands": "VFIO_USER_VERSION, VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, VFIO_USER_DEVICE_GET_INFO, "
                "VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_GET_REGION_IO_FDS, "
                "VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_REGION_READ, "
                "VFIO_USER_REGION_WRITE, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, "
                "VFIO_USER_DEVICE_RESET, VFIO_USER_REGION_WRITE_MULTI, VFIO_USER_DEVICE_FEATURE, "
                "VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE",
    "Header": "Message ID, Command, Message size, Flags, Type, No_reply, Error",
    "VFIO_USER_VERSION": "version major, version minor, version data, capabilities, max_msg_fds, "
                         "max_data_xfer_size, max_dma_maps, pgsizes, twin_socket, write_multiple, "
                         "supported, fd_index",
    "VFIO_USER_DMA_MAP": "argsz, flags, readable, writeable, offset, address, size",
    "VFIO_USER_DMA_UNMAP": "argsz, flags, address, size",
    "VFIO_USER_DEVICE_GET_INFO": "argsz, flags, VFIO_DEVICE_FLAGS_RESET, VFIO_DEVICE_FLAGS_PCI, "
                                 "num_regions, num_irqs",
    "VFIO_USER_DEVICE_GET_REGION_INFO": "argsz, flags, VFIO_REGION_INFO_FLAG_READ, "
                                        "VFIO_REGION_INFO_FLAG_WRITE, VFIO_REGION_INFO_FLAG_MMAP, "
                                        "VFIO_REGION_INFO_FLAG_CAPS, index, cap_offset, size, offset",
    "VFIO cap header format": "id, version, next",
    "VFIO sparse mmap cap header": "id, version, next, sparse mmap info",
    "VFIO region info cap sparse mmap": "nr_areas, reserved, offset, size",
    "VFIO_USER_DEVICE_GET_REGION_IO_FDS": "argsz, flags, index, count, sub-regions",
    "Sub-Region IO FD info format (ioeventfd)": "offset, size, fd_index, type, flags, padding, datamatch",
    "Sub-Region IO FD info format (ioregionfd)": "offset, size, fd_index, type, flags, padding, user_data",
    "VFIO_USER_DEVICE_GET_IRQ_INFO": "argsz, flags, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, "
                                     "VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_NORESIZE, index, count",
    "VFIO_USER_DEVICE_SET_IRQS": "argsz, flags, VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_BOOL, "
                                 "VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_MASK, "
                                 "VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_ACTION_TRIGGER, index, "
                                 "start, count, data",
    "VFIO_USER_REGION_READ": "offset, region, count, data",
    "VFIO_USER_REGION_WRITE": "offset, region, count, data",
    "VFIO_USER_DMA_READ": "address, count, data",
    "VFIO_USER_DMA_WRITE": "address, count, data",
    "VFIO_USER_REGION_WRITE_MULTI": "wr_cnt, wrs",
    "Single Device Write Format": "offset, region, count, data",
    "VFIO_USER_DEVICE_FEATURE": "argsz, flags, Feature index, VFIO_DEVICE_FEATURE_GET, "
                                "VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE, data",
    "Device Features": "VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, "
                       "VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, "
                       "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
    "VFIO_DEVICE_FEATURE_MIGRATION": "flags, VFIO_MIGRATION_STOP_COPY, VFIO_MIGRATION_P2P, "
                                     "VFIO_MIGRATION_PRE_COPY",
    "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE": "device_state, data_fd, VFIO_DEVICE_STATE_ERROR, "
                                            "VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING, "
                                            "VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING, "
                                            "VFIO_DEVICE_STATE_RUNNING_P2P, "
                                            "VFIO_DEVICE_STATE_PRE_COPY, "
                                            "VFIO_DEVICE_STATE_PRE_COPY_P2P",
    "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP":
        "page_size, num_ranges, reserved, ranges, iova, length",
    "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT": "iova, length, page_size",
    "VFIO_USER_MIG_DATA_READ": "argsz, size, data",
    "VFIO_USER_MIG_DATA_WRITE": "argsz, size, data",
}

# Sections without tables that say what a server has to do.
SECTIONS = ["Device-Specific Regions", "Socket", "Command Concurrency", "Socket Disconnection Behavior",
            "Client Disconnection", "Security Considerations", "Message sizes",
            "Read and Write Operations", "VFIO_USER_DEVICE_RESET", "Direct State Transitions",
            "Complex State Transitions", "Backend Program Conventions"]


def rows():
    return {(section, row) for section, names in ROWS.items() for row in names.split(", ")}


def cited(citation):
    """A citation is "SECTION: row, row" or "SECTION"; several are separated by semicolons."""
    for part in citation.split("; "):
        section, _, names = part.partition(": ")
        yield section, None
        for row in names.split(", ") if names else []:
            yield section, row

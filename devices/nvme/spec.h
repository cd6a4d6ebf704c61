/*
 * spec.h - names and layouts of NVM Express 1.4, as far as this controller uses them.
 *
 * All numbers in memory are little-endian. Section numbers are those of revision 1.4.
 */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include <stdint.h>

/* ---- Controller registers (3.1), as offsets in BAR 0 ----------------------------------------- */

#define REG_CAP 0x00
#define REG_VS 0x08
#define REG_INTMS 0x0c
#define REG_INTMC 0x10
#define REG_CC 0x14
#define REG_CSTS 0x1c
#define REG_NSSR 0x20
#define REG_AQA 0x24
#define REG_ASQ 0x28
#define REG_ACQ 0x30
#define REG_DOORBELLS 0x1000

#define VERSION_1_4 0x00010400u

#define CC_EN 0x1u
#define CC_CSS(cc) ((cc) >> 4 & 7)
#define CC_MPS(cc) ((cc) >> 7 & 15)
#define CC_AMS(cc) ((cc) >> 11 & 7)
#define CC_SHN(cc) ((cc) >> 14 & 3)
#define CC_IOSQES(cc) ((cc) >> 16 & 15)
#define CC_IOCQES(cc) ((cc) >> 20 & 15)
#define CC_LATER 0x00ffc000u /* SHN, IOSQES, IOCQES: may change while enabled */
#define CC_ALL 0x00fffff1u

#define CSTS_RDY 0x1u
#define CSTS_CFS 0x2u
#define CSTS_SHST 0xcu
#define CSTS_SHST_OCCURRING 0x4u
#define CSTS_SHST_COMPLETE 0x8u
#define CSTS_NSSRO 0x10u

#define NSSR_RESET 0x4e564d65u /* "NVMe" */

/* ---- Queue entries (4.2, 4.6) ------------------------------------------------------------------- */

struct nvme_command {
    uint8_t opcode;
    uint8_t flags; /* 1:0 FUSE, 7:6 PSDT */
    uint16_t cid;
    uint32_t nsid;
    uint32_t cdw2;
    uint32_t cdw3;
    uint64_t mptr;
    uint64_t prp1; /* or the first half of an SGL descriptor */
    uint64_t prp2; /* or the second */
    uint32_t cdw10;
    uint32_t cdw11;
    uint32_t cdw12;
    uint32_t cdw13;
    uint32_t cdw14;
    uint32_t cdw15;
};
_Static_assert(sizeof(struct nvme_command) == 64, "");

#define COMMAND_FUSE(c) ((c)->flags & 3)
#define COMMAND_PSDT(c) ((c)->flags >> 6)

struct nvme_completion {
    uint32_t dw0;
    uint32_t dw1;
    uint16_t sqhd;
    uint16_t sqid;
    uint16_t cid;
    uint16_t status; /* 0 phase, 15:1 status */
};
_Static_assert(sizeof(struct nvme_completion) == 16, "");

struct nvme_sgl {
    uint64_t address;
    uint32_t length;
    uint8_t reserved[3];
    uint8_t type; /* 7:4 type, 3:0 subtype */
};
_Static_assert(sizeof(struct nvme_sgl) == 16, "");

#define SGL_DATA 0x00
#define SGL_SEGMENT 0x20
#define SGL_LAST_SEGMENT 0x30

/* ---- Status (4.6.1): type << 8 | code, and the bit that forbids a retry -------------------------- */

#define SC_SUCCESS 0x000
#define SC_INVALID_OPCODE 0x001
#define SC_INVALID_FIELD 0x002
#define SC_CID_CONFLICT 0x003
#define SC_DATA_TRANSFER 0x004
#define SC_INTERNAL 0x006
#define SC_ABORT_REQUESTED 0x007
#define SC_INVALID_NAMESPACE 0x00b
#define SC_SGL_SEGMENT 0x00d
#define SC_SGL_COUNT 0x00e
#define SC_SGL_LENGTH 0x00f
#define SC_SGL_TYPE 0x011
#define SC_PRP_OFFSET 0x013
#define SC_WRITE_PROTECTED 0x020
#define SC_LBA_RANGE 0x080
#define SC_CAPACITY 0x081
#define SC_CQ_INVALID 0x100
#define SC_QUEUE_ID 0x101
#define SC_QUEUE_SIZE 0x102
#define SC_AER_LIMIT 0x105
#define SC_VECTOR 0x108
#define SC_LOG_PAGE 0x109
#define SC_QUEUE_DELETION 0x10c
#define SC_NOT_SAVEABLE 0x10d
#define SC_NOT_CHANGEABLE 0x10e
#define SC_NOT_NAMESPACE 0x10f
#define SC_CONFLICTING 0x180
#define SC_COMMAND_SIZE 0x183
#define SC_WRITE_FAULT 0x280
#define SC_READ_ERROR 0x281
#define SC_COMPARE_FAILURE 0x285
#define SC_DNR 0x4000

/* ---- Commands ------------------------------------------------------------------------------------- */

#define ADMIN_DELETE_SQ 0x00
#define ADMIN_CREATE_SQ 0x01
#define ADMIN_GET_LOG 0x02
#define ADMIN_DELETE_CQ 0x04
#define ADMIN_CREATE_CQ 0x05
#define ADMIN_IDENTIFY 0x06
#define ADMIN_ABORT 0x08
#define ADMIN_SET_FEATURES 0x09
#define ADMIN_GET_FEATURES 0x0a
#define ADMIN_AER 0x0c
#define ADMIN_DOORBELL_BUFFER 0x7c

#define NVM_FLUSH 0x00
#define NVM_WRITE 0x01
#define NVM_READ 0x02
#define NVM_COMPARE 0x05
#define NVM_WRITE_ZEROES 0x08
#define NVM_DSM 0x09
#define NVM_VERIFY 0x0c
#define NVM_COPY 0x19

#define NSID_ALL 0xffffffffu

/* Command dword 12 of Read, Write and their like. */
#define RW_DEAC (1u << 25)
#define RW_PRINFO (15u << 26)
#define RW_FUA (1u << 30)

#define DSM_DEALLOCATE 4u

struct nvme_dsm_range {
    uint32_t attributes;
    uint32_t blocks;
    uint64_t lba;
};

struct nvme_copy_range {
    uint64_t reserved;
    uint64_t lba;
    uint16_t blocks; /* less one */
    uint8_t reserved2[14];
};
_Static_assert(sizeof(struct nvme_copy_range) == 32, "");

/* ---- Features (5.21.1) ------------------------------------------------------------------------------ */

#define FEAT_ARBITRATION 0x01
#define FEAT_POWER 0x02
#define FEAT_TEMPERATURE 0x04
#define FEAT_ERROR_RECOVERY 0x05
#define FEAT_WRITE_CACHE 0x06
#define FEAT_QUEUES 0x07
#define FEAT_COALESCING 0x08
#define FEAT_VECTOR 0x09
#define FEAT_ATOMICITY 0x0a
#define FEAT_EVENTS 0x0b
#define FEAT_TIMESTAMP 0x0e

/* ---- Asynchronous events (5.2): what completion dword 0 says -------------------------------------- */

#define EVENT_TYPE_ERROR 0u
#define EVENT_TYPE_HEALTH 1u
#define EVENT_TYPE_NOTICE 2u
#define EVENT_INVALID_DOORBELL 0x010000u       /* log page 1, info 0, type 0 */
#define EVENT_INVALID_DOORBELL_VALUE 0x010100u /* log page 1, info 1, type 0 */
#define EVENT_TEMPERATURE 0x020101u            /* log page 2, info 1, type 1 */
#define EVENT_NAMESPACE 0x040002u              /* log page 4, info 0, type 2 */

#define LOG_ERROR 0x01
#define LOG_SMART 0x02
#define LOG_FIRMWARE 0x03
#define LOG_CHANGED_NAMESPACES 0x04
#define LOG_EFFECTS 0x05

#endif

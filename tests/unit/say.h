/*
 * say.h - a client's messages, put into a socket without waiting for the replies.
 *
 * The socket must have room for them. Ids are the commands' numbers.
 */
#ifndef TESTS_SAY_H
#define TESTS_SAY_H

#include "wire/message.h"

#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

struct vfio_user_header say_header(uint16_t command, size_t body);
void say(int sock, struct vfio_user_header h, const void *fixed, size_t fixed_size,
         const void *data, size_t data_size, const int *fds, unsigned nfds);
void say_version(int sock);
void say_version_twin(int sock); /* offers a twin socket */
void say_write(int sock, uint32_t region, uint64_t at, uint64_t v, uint32_t n, bool post);
void say_read(int sock, uint32_t region, uint64_t at, uint32_t n);
void say_map(int sock, uint64_t address, uint64_t size, int fd);
void say_unmap(int sock, uint32_t flags, uint64_t address, uint64_t size);
void say_irqs(int sock, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
              const void *data, size_t n, const int *fds, unsigned nfds);
void say_region_info(int sock, uint32_t index);
void say_fence(int sock);

#endif

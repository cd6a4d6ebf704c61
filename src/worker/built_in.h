/* The devices that are built in, one a line, sorted. */
BUILT_IN(edu)
BUILT_IN(nvme)
BUILT_IN(rtc)
BUILT_IN(serial)

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"

static void check(const char *text, uint32_t crc, uint32_t adler)
{
    const uint8_t *data = (const uint8_t *)text;
    assert(crc32(data, strlen(text)) == crc);
    assert(adler32(data, strlen(text)) == adler);
}

int main(void)
{
    check("", 0x00000000, 0x00000001);
    check("123456789", 0xcbf43926, 0x091e01de);
    check("Wikipedia", 0xadaac02e, 0x11e60398);

    /* longer than what fits into 16 bits */
    size_t size = 100000;
    uint8_t *data = malloc(size);
    memset(data, 0xff, size);
    assert(adler32(data, size) == 0x149a302c);
    free(data);
    return 0;
}

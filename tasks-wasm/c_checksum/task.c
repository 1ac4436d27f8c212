/* The task: what the component exports, by the component model's canonical ABI. For larger signatures
   `wit-bindgen c` writes this. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "checksum.h"

/* The fields of wit/checksum.wit, laid out as C does it. */
struct checksums {
    uint64_t bytes;
    uint32_t crc32;
    uint32_t adler32;
};

/* The worker asks for memory to put arguments into. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size)
{
    (void)old_size, (void)align; /* malloc's is the largest */
    void *memory = realloc(old, size);
    if (memory == NULL && size > 0)
        abort();
    return memory;
}

__attribute__((export_name("checksums")))
struct checksums *checksums(uint8_t *data, size_t size)
{
    static struct checksums result;
    result.bytes = size;
    result.crc32 = crc32(data, size);
    result.adler32 = adler32(data, size);
    free(data);
    printf("checksums of %zu bytes\n", size); /* into the task's log */
    fflush(stdout);
    return &result;
}

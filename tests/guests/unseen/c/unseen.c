/* A module that nobody wrote for Petiole: the C library. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct text {
    const char *at;
    size_t size;
};

struct pair {
    struct text name, value;
};

struct pairs {
    struct pair *at;
    size_t size;
};

__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size)
{
    (void)old_size, (void)align;
    return realloc(old, size);
}

static struct text text(const char *string)
{
    char *copy = strdup(string);
    return (struct text){copy, strlen(copy)};
}

static struct text number(long long value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", value);
    return text(digits);
}

static struct text opened(const char *path, int flags)
{
    if (open(path, flags, 0600) >= 0)
        return text("done");
    char refused[80];
    snprintf(refused, sizeof refused, "refused: %s", strerror(errno));
    return text(refused);
}

static int by_value(const void *one, const void *other)
{
    return *(const int *)one - *(const int *)other;
}

__attribute__((export_name("look-around")))
struct pairs *look_around(void)
{
    static struct pairs result;
    int numbers[] = {3, 1, 2};
    time_t now = time(NULL);
    char *large = calloc(16, 1 << 20);

    printf("printed\nin two lines\n");
    fprintf(stderr, "printed as an error\n");
    qsort(numbers, 3, sizeof numbers[0], by_value);
    struct pair pairs[] = {
        {text("sort"), number(numbers[0] * 100 + numbers[1] * 10 + numbers[2])},
        {text("square root"), number(lround(sqrt(1764)))},
        {text("memory"), number(large != NULL && large[123456] == 0)},
        {text("year"), number(gmtime(&now)->tm_year + 1900)},
        {text("environment"), number(getenv("PATH") != NULL)},
        {text("read a file"), opened("/etc/passwd", O_RDONLY)},
        {text("write a file"), opened("/tmp/file", O_WRONLY | O_CREAT)},
        {text("list a folder"), opened("/", O_DIRECTORY)},
    };
    free(large);
    result.size = sizeof pairs / sizeof pairs[0];
    result.at = memcpy(malloc(sizeof pairs), pairs, sizeof pairs);
    return &result;
}

__attribute__((export_name("give-up")))
void give_up(char *order, size_t size)
{
    assert(size == 0 && "order has no lines");
}

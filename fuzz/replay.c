/* replay.c: runs a fuzzer's function over kept inputs without libFuzzer, so
 * that every past finding stays a test with any compiler. Arguments are files
 * and folders; a folder that is not there holds no inputs yet. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define INPUT_MAX ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rbe");
    uint8_t *data = malloc(INPUT_MAX);
    size_t n;

    if (!f || !data) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        if (f)
            (void)fclose(f);
        free(data);
        return 1;
    }
    n = fread(data, 1, INPUT_MAX, f);
    (void)fclose(f);
    /* exactly sized, so that a sanitizer sees one byte too far */
    if (n > 0) {
        uint8_t *exact = realloc(data, n);

        data = exact ? exact : data;
    }
    (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 0;
}

static int replay_folder(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *entry;
    int bad = 0, n = 0;

    if (!d)
        return 0;
    while ((entry = readdir(d))) {
        char file[4096];

        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) >= (int)sizeof file)
            return 1;
        bad |= replay_file(file);
        n++;
    }
    (void)closedir(d);
    (void)printf("%d inputs\n", n);
    return bad;
}

int main(int argc, char **argv)
{
    static const uint8_t nothing[1] = { 0 };
    int bad = 0;

    (void)LLVMFuzzerTestOneInput(nothing, 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) != 0)
            continue;
        bad |= S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
    }
    return bad;
}

/* Keeps, of each file below $POWER_FOLDER, what it held when the program last had it written to the disk.
 *
 * Preloaded into a program. After each fsync and fdatasync the file is copied to $POWER_SYNCED, its path with '%' for '/'.
 * What a failing power supply leaves is at least that.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy(int from, const char *to) {
    char buffer[1 << 16];
    off_t at = 0;
    ssize_t got;
    int out = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    while ((got = pread(from, buffer, sizeof buffer, at)) > 0) {
        if (write(out, buffer, got) != got) abort();
        at += got;
    }
    close(out);
}

static void keep(int fd) {
    char link[64], path[PATH_MAX], name[2 * PATH_MAX], new[2 * PATH_MAX + 8], lock[2 * PATH_MAX];
    const char *folder = getenv("POWER_FOLDER"), *synced = getenv("POWER_SYNCED");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || !folder || !synced) return;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) || strstr(path, " (deleted)")) return;
    for (char *at = path; *at; at++)
        if (*at == '/') *at = '%';
    if (strlen(synced) >= PATH_MAX - 8) abort();
    snprintf(name, sizeof name, "%s/%s", synced, path);
    snprintf(new, sizeof new, "%s.new", name);
    snprintf(lock, sizeof lock, "%s/lock", synced);
    int held = open(lock, O_CREAT | O_RDWR, 0600);
    flock(held, LOCK_EX); /* or an older copy could come after a newer one */
    int again = open(link, O_RDONLY);
    copy(again, new);
    close(again);
    rename(new, name);
    close(held);
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0) keep(fd);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }

/* For crash_safety.py, by LD_PRELOAD: counts the calls that change files below one
 * folder, and at one of them kills the process (a write is first half done) or, from
 * there on, has no room on the disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[4096];
static atomic_long calls;
static long kill_at, full_at;
static int log_fd = -1;

/* kill or full: the number of the call, from 1; 0 for never. */
void crash_arm(const char *folder, long kill_call, long full_call, int log) {
  snprintf(root, sizeof root, "%s", folder);
  kill_at = kill_call, full_at = full_call, log_fd = log;
  atomic_store(&calls, 0);
}

long crash_calls(void) { return atomic_load(&calls); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(void) { kill(getpid(), SIGKILL); }

/* Whether to go on: 0 yes, 1 killed after half of it, 2 no room. */
static int met(const char *what, const char *path) {
  if (!root[0] || strncmp(path, root, strlen(root))) return 0;
  long n = atomic_fetch_add(&calls, 1) + 1;
  if (log_fd >= 0) {
    char line[4400];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", n, what, path + strlen(root));
    REAL(write)(log_fd, line, length);
  }
  if (kill_at && n == kill_at) return 1;
  return full_at && n >= full_at ? 2 : 0;
}

static int met_fd(const char *what, int fd) {
  char link[64], path[4096];
  if (!root[0] || fd == log_fd) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return met(what, path);
}

#define NO_ROOM(m) if ((m) == 2) { errno = ENOSPC; return -1; }

ssize_t write(int fd, const void *data, size_t count) {
  int m = met_fd("write", fd);
  if (m == 1) { REAL(write)(fd, data, count / 2); die(); }
  NO_ROOM(m)
  return REAL(write)(fd, data, count);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) {
  int m = met_fd("pwrite", fd);
  if (m == 1) { REAL(pwrite64)(fd, data, count / 2, offset); die(); }
  NO_ROOM(m)
  return REAL(pwrite64)(fd, data, count, offset);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) {
  return pwrite64(fd, data, count, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  int m = met_fd("writev", fd);
  if (m == 1) { REAL(writev)(fd, parts, 1); die(); }
  NO_ROOM(m)
  return REAL(writev)(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  int m = met_fd("pwritev", fd);
  if (m == 1) { REAL(pwritev)(fd, parts, 1, offset); die(); }
  NO_ROOM(m)
  return REAL(pwritev)(fd, parts, count, offset);
}

int fsync(int fd) {
  if (met_fd("fsync", fd) == 1) die();
  return REAL(fsync)(fd);
}

int fdatasync(int fd) {
  if (met_fd("fdatasync", fd) == 1) die();
  return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t length) {
  if (met_fd("ftruncate", fd) == 1) die();
  return REAL(ftruncate)(fd, length);
}

int rename(const char *from, const char *to) {
  if (met("rename", to) == 1) die();
  return REAL(rename)(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
  if (met("renameat", to) == 1) die();
  return REAL(renameat)(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  if (met("renameat2", to) == 1) die();
  return REAL(renameat2)(a, from, b, to, flags);
}

int link(const char *from, const char *to) {
  if (met("link", to) == 1) die();
  return REAL(link)(from, to);
}

int unlink(const char *path) {
  if (met("unlink", path) == 1) die();
  return REAL(unlink)(path);
}

int unlinkat(int fd, const char *path, int flags) {
  if (met_fd("unlinkat", fd) == 1) die();
  return REAL(unlinkat)(fd, path, flags);
}

int rmdir(const char *path) {
  if (met("rmdir", path) == 1) die();
  return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
  int m = met("mkdir", path);
  if (m == 1) die();
  NO_ROOM(m)
  return REAL(mkdir)(path, mode);
}

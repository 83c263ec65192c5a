/*
 * A slow disk and a wrong clock for one process, which is not changed for it: loaded before its libraries.
 *
 * A file that MISHAPS names is mapped: three numbers of 64 bits in the machine's order, which whoever mistreats the
 * process writes there, and which hold at once: how far the wall clock is off, how long syncs and how long writes
 * take longer, in nanoseconds. Clocks that only go forward are left alone.
 *
 * The clock is asked through libc. Files are written by system calls of the program's own, so a filter makes the
 * kernel send a signal instead of doing those of interest; its handler waits, and does the call with a mark in an
 * argument that the call does not use, by which the filter lets it pass.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(context, number) argument_of((context)->uc_mcontext.gregs, number)
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
static long argument_of(const greg_t *registers, int number) {
    static const int places[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8};
    return registers[places[number]];
}
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(context, number) ((long)(context)->uc_mcontext.regs[number])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "the registers of this machine are not known"
#endif

#define MARK 0x6d697368u
#define SECOND_NS 1000000000L
/* So soon a wait that is called off ends. */
#define LOOK_NS 5000000L

struct mishaps {
    int64_t clock_ns;
    int64_t sync_ns;
    int64_t write_ns;
};

static struct mishaps *mishaps;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

static int64_t now_in(const int64_t *number) {
    return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static int ask(clockid_t clock, struct timespec *time) {
    if (real_clock_gettime == NULL) {
        return (int)syscall(SYS_clock_gettime, clock, time);
    }
    return real_clock_gettime(clock, time);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int status = ask(clock, time);
    if (status == 0 && mishaps != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t off = now_in(&mishaps->clock_ns);
        int64_t nanoseconds = time->tv_nsec + off % SECOND_NS;
        time->tv_sec += off / SECOND_NS;
        if (nanoseconds < 0) {
            nanoseconds += SECOND_NS;
            time->tv_sec -= 1;
        } else if (nanoseconds >= SECOND_NS) {
            nanoseconds -= SECOND_NS;
            time->tv_sec += 1;
        }
        time->tv_nsec = nanoseconds;
    }
    return status;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    if (status == 0) {
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
    }
    return status;
}

time_t time(time_t *to) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    if (to != NULL) {
        *to = now.tv_sec;
    }
    return now.tv_sec;
}

static int64_t since_ns(const struct timespec *began) {
    struct timespec now;
    ask(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - began->tv_sec) * SECOND_NS + (now.tv_nsec - began->tv_nsec);
}

static void take_longer(const int64_t *longer_ns) {
    struct timespec began;
    ask(CLOCK_MONOTONIC, &began);
    for (;;) {
        int64_t left = now_in(longer_ns) - since_ns(&began);
        if (left <= 0) {
            return;
        }
        struct timespec pause = {0, left < LOOK_NS ? left : LOOK_NS};
        nanosleep(&pause, NULL);
    }
}

static void instead(int signal, siginfo_t *info, void *of) {
    (void)signal;
    int before = errno;
    ucontext_t *context = of;
    long call = info->si_syscall;
    take_longer(call == SYS_fdatasync || call == SYS_fsync ? &mishaps->sync_ns : &mishaps->write_ns);
    long result = syscall(call, ARGUMENT(context, 0), ARGUMENT(context, 1), ARGUMENT(context, 2),
                          ARGUMENT(context, 3), ARGUMENT(context, 4), (long)MARK);
    RESULT(context) = result == -1 ? -errno : result;
    errno = before;
}

static void fail(const char *what) {
    perror(what);
    _exit(97);
}

static void filter(void) {
    static struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 2),
        /* The lower half of the sixth argument; both machines have it first. */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof steps / sizeof *steps, steps};
    struct sigaction action = {0};
    action.sa_sigaction = instead;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    if (sigaction(SIGSYS, &action, NULL) != 0) {
        fail("mishaps: sigaction");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        fail("mishaps: seccomp");
    }
}

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("MISHAPS");
    if (name == NULL) {
        return;
    }
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        fail(name);
    }
    struct mishaps *mapped = mmap(NULL, sizeof *mapped, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        fail(name);
    }
    close(file);
    mishaps = mapped;
    filter();
}

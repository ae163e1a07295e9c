/* Calls that ordinary programs seldom make, for the oracle. Compiled without PIE:
 * what 32-bit calls point to must lie in the lowest 4 GiB, and literals do then.
 *
 * Without an argument: calls with two paths, names that are no text, paths as long
 * as they may be and longer, strings that are not there. Most fail, which is all the
 * same to strace and the recorder.
 *
 * With one: every number there is, under a filter that refuses all of them, so that
 * nothing happens. Each argument points to another string, so that strace shows
 * which ones are strings. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NUMBERS 480
#define LAST_WORD 77

static char longest[4096], too_long[6000];
static const char *const strings[6] = { "/oracle/a", "/oracle/b", "/oracle/c",
					"/oracle/d", "/oracle/e", "/oracle/f" };

#ifdef __x86_64__
static long call_32(int nr, const void *a, const void *b, const void *c, const void *d,
		    const void *e, const void *f)
{
	long answer = nr;
	/* The last argument lies in the frame pointer, which the compiler does not give
	 * away; and what lies below the stack pointer is not ours to push on. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %%rbp\n\tmov %[f], %%rbp\n\t"
			 "int $0x80\n\tpop %%rbp\n\tlea 128(%%rsp), %%rsp"
			 : "+a"(answer)
			 : "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "r"(f)
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return answer;
}

/* i386 numbers, arch/x86/entry/syscalls/syscall_32.tbl. */
static void two_paths_32(const char *from, const char *to)
{
	static const int calls[] = { 9 /* link */, 38 /* rename */, 83 /* symlink */,
				     217 /* pivot_root */ };
	for (unsigned at = 0; at < sizeof calls / sizeof *calls; at++)
		call_32(calls[at], from, to, 0, 0, 0, 0);
	call_32(302 /* renameat */, (void *)AT_FDCWD, from, (void *)AT_FDCWD, to, 0, 0);
	call_32(353 /* renameat2 */, (void *)AT_FDCWD, from, (void *)AT_FDCWD, to, (void *)1, 0);
	call_32(303 /* linkat */, (void *)AT_FDCWD, from, (void *)AT_FDCWD, to, 0, 0);
	call_32(304 /* symlinkat */, from, (void *)AT_FDCWD, to, 0, 0, 0);
}

/* Ends well where the kernel has no 32-bit calls; the oracle says so. */
static void no_32(int signal)
{
	(void)signal;
	_exit(0);
}
#endif

static void two_paths(const char *from, const char *to)
{
#ifdef __x86_64__
	syscall(SYS_link, from, to);
	syscall(SYS_rename, from, to);
	syscall(SYS_symlink, from, to);
#endif
	syscall(SYS_pivot_root, from, to);
	syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
	syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1);
	syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
	syscall(SYS_symlinkat, from, AT_FDCWD, to);
	syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0);
	syscall(SYS_mount, from, to, "oracle", 0, 0);
}

/* A path of `length` bytes in parts of 200. */
static void fill(char *path, int length)
{
	for (int at = 0; at < length; at++)
		path[at] = at % 200 ? 'x' : '/';
}

static void rare(void)
{
	static const char *paths[] = { "words.txt", "soft",     "hard\xff\xfe\x80", "",
				       "NULL",	    "a\n\"\\\t", longest,	     too_long,
				       0,	    (char *)8 };
	const unsigned count = sizeof paths / sizeof *paths;
	/* The last byte that can be read is a letter. */
	char *edge = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + 4096, 4096);
	edge[4095] = 'e';
	paths[9] = edge + 4095;
	fill(longest, sizeof longest - 1);
	fill(too_long, sizeof too_long - 1);
	for (unsigned at = 0; at < count; at++)
		two_paths(paths[at], paths[(at + 1) % count]);
#ifdef __x86_64__
	signal(SIGSEGV, no_32);
	/* Not the page at the edge: it lies too high. */
	for (unsigned at = 0; at < count - 1; at++)
		two_paths_32(paths[at], paths[(at + 1) % (count - 1)]);
#endif
}

/* Numbers of 64-bit x86 that no filter sees: the kernel makes these calls itself, and
 * kills others who do (uretprobe, uprobe). */
static int is_probe(int nr)
{
#ifdef __x86_64__
	return nr == 335 || nr == 336;
#else
	(void)nr;
	return 0;
#endif
}

static void every_number(void)
{
	/* All are refused but the last one of this program. */
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LAST_WORD, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
	};
	struct sock_fprog filter = { sizeof steps / sizeof *steps, steps };
	const char *const *a = strings;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		_exit(1);
	for (int nr = 0; nr < NUMBERS; nr++)
		if (!is_probe(nr))
			syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
#ifdef __x86_64__
	for (int nr = 0; nr < NUMBERS; nr++)
		call_32(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
#endif
	for (;;)
		syscall(SYS_exit_group, LAST_WORD);
}

int main(int count, char **words)
{
	(void)words;
	if (count > 1)
		every_number();
	rare();
	return 0;
}

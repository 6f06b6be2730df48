/*
 * A process that makes key system calls as it is told, one line each, and prints what the kernel
 * answered: "ok VALUE" or "err ERRNO". It uses nothing but system calls and the C library, so that
 * what it says cannot come from keyns.
 *
 * Words are separated by one space; "~" stands for NULL and "-" for the empty text.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORDS 6
#define THREADS 64

static char buffer[32768];

static long add_key(const char *type, const char *desc, const char *payload, int ring)
{
	return syscall(SYS_add_key, type, desc, *payload ? payload : NULL, strlen(payload), ring);
}

static long request_key(const char *type, const char *desc, const char *callout)
{
	return syscall(SYS_request_key, type, desc, callout, 0);
}

static long keyctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	return syscall(SYS_keyctl, op, a, b, c, d);
}

static void say(long value)
{
	if (value < 0)
		printf("err %d\n", errno);
	else
		printf("ok %ld\n", value);
}

/* What an operation has written to the buffer. */
static void say_text(long length)
{
	if (length < 0)
		printf("err %d\n", errno);
	else
		printf("ok %.*s\n", (int)length, buffer);
}

static const char *text(const char *word)
{
	if (!strcmp(word, "~"))
		return NULL;
	return strcmp(word, "-") ? word : "";
}

struct flood {
	const char *type;
	char desc[64];
	pthread_barrier_t *start;
	int answer;
};

static void *ask(void *arg)
{
	struct flood *flood = arg;

	pthread_barrier_wait(flood->start);
	flood->answer = request_key(flood->type, flood->desc, "") < 0 ? errno : 0;
	return NULL;
}

/* "ok ERRNO:COUNT ERRNO:COUNT ...", 0 for those that got a key. */
static void flood(const char *type, const char *prefix, int count)
{
	static struct flood floods[THREADS];
	static pthread_t threads[THREADS];
	static int counts[4096];
	pthread_barrier_t start;

	if (count < 1 || count > THREADS) {
		printf("err %d\n", EINVAL);
		return;
	}
	memset(counts, 0, sizeof(counts));
	pthread_barrier_init(&start, NULL, count);
	for (int i = 0; i < count; i++) {
		floods[i].type = type;
		floods[i].start = &start;
		snprintf(floods[i].desc, sizeof(floods[i].desc), "%s%d", prefix, i);
		if (pthread_create(&threads[i], NULL, ask, &floods[i]))
			_exit(1);
	}
	for (int i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
		counts[floods[i].answer & 4095]++;
	}
	printf("ok");
	for (int i = 0; i < 4096; i++)
		if (counts[i])
			printf(" %d:%d", i, counts[i]);
	printf("\n");
}

static void list(int ring)
{
	long length = keyctl(KEYCTL_READ, ring, (unsigned long)buffer, sizeof(buffer), 0);

	if (length < 0) {
		printf("err %d\n", errno);
		return;
	}
	printf("ok");
	for (long i = 0; i + 4 <= length && i + 4 <= (long)sizeof(buffer); i += 4) {
		int serial;

		memcpy(&serial, buffer + i, 4);
		printf(" %d", serial);
	}
	printf("\n");
}

static void capabilities(void)
{
	long length = keyctl(KEYCTL_CAPABILITIES, (unsigned long)buffer, sizeof(buffer), 0, 0);

	if (length < 0) {
		printf("err %d\n", errno);
		return;
	}
	printf("ok ");
	for (long i = 0; i < length; i++)
		printf("%02x", (unsigned char)buffer[i]);
	printf("\n");
}

static void obey(int n, char **w)
{
	unsigned long out = (unsigned long)buffer;

	if (n == 1 && !strcmp(w[0], "pid"))
		say(getpid());
	else if (n == 1 && !strcmp(w[0], "join"))
		say(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
	else if (n == 1 && !strcmp(w[0], "capabilities"))
		capabilities();
	else if (n == 1 && !strcmp(w[0], "unshare"))
		say(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS));
	else if (n == 2 && !strcmp(w[0], "uid"))
		say(setresuid(atoi(w[1]), atoi(w[1]), atoi(w[1])));
	else if (n == 5 && !strcmp(w[0], "add"))
		say(add_key(w[1], w[2], text(w[3]), atoi(w[4])));
	else if (n == 4 && !strcmp(w[0], "request"))
		say(request_key(w[1], w[2], text(w[3])));
	else if (n == 2 && !strcmp(w[0], "read"))
		say_text(keyctl(KEYCTL_READ, atoi(w[1]), out, sizeof(buffer), 0));
	else if (n == 2 && !strcmp(w[0], "describe"))
		say_text(keyctl(KEYCTL_DESCRIBE, atoi(w[1]), out, sizeof(buffer), 0));
	else if (n == 2 && !strcmp(w[0], "list"))
		list(atoi(w[1]));
	else if (n == 3 && !strcmp(w[0], "link"))
		say(keyctl(KEYCTL_LINK, atoi(w[1]), atoi(w[2]), 0, 0));
	else if (n == 3 && !strcmp(w[0], "update"))
		say(keyctl(KEYCTL_UPDATE, atoi(w[1]), (unsigned long)w[2], strlen(w[2]), 0));
	else if (n == 4 && !strcmp(w[0], "flood"))
		flood(w[1], w[2], atoi(w[3]));
	else
		printf("err %d\n", ENOSYS);
	fflush(stdout);
}

int main(void)
{
	static char line[4096];

	while (fgets(line, sizeof(line), stdin)) {
		char *words[WORDS + 1], *rest = line, *word;
		int n = 0;

		line[strcspn(line, "\n")] = 0;
		while (n < WORDS && (word = strsep(&rest, " ")))
			words[n++] = word;
		if (n > 0)
			obey(n, words);
	}
	return 0;
}

/*
 * The floor: the bare system calls of an attach and of its way back, from C, with nothing around them. What shiftvol takes longer than
 * this is its own: checks, journal, JavaScript. Options are those of src/mount (guard.ts, open-file.ts), or the comparison would lie.
 *
 *   floor TEMPLATE SNAPSHOT-DIR MOUNT-DIR ext4|xfs HOST-ID [COUNT]
 *
 * With COUNT that many rounds of attach and detach; without it one for each line of standard input ("attach NAME", "detach NAME"), so
 * that the bench can take turns. One line of JSON each: {"op":"attach","name":"x","ms":3.2,"phases":{"clone":0.2,...}}
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UMOUNT_NOFOLLOW_FLAG 8
#define CMD_CREATE_EXCL 8 /* FSCONFIG_CMD_CREATE_EXCL, Linux 6.6: the headers may be older than the kernel */
#define ID_COUNT 65536

static const char *template_path, *snapshot_dir, *mount_dir, *fs_type;
static unsigned host_id;

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int must(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

/* Phases: their names and when each ended. */
static struct {
	const char *name;
	double ms;
} phases[16];
static int phase_count;
static double began, lap;

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void begin(void)
{
	phase_count = 0;
	began = lap = now_ms();
}

static void phase(const char *name)
{
	double now = now_ms();
	phases[phase_count].name = name;
	phases[phase_count++].ms = now - lap;
	lap = now;
}

static void end(const char *op, const char *name)
{
	printf("{\"op\":\"%s\",\"name\":\"%s\",\"ms\":%.4f,\"phases\":{", op, name, lap - began);
	for (int i = 0; i < phase_count; i++)
		printf("%s\"%s\":%.4f", i ? "," : "", phases[i].name, phases[i].ms);
	printf("}}\n");
	fflush(stdout);
}

/* One try after another: LOOP_CTL_GET_FREE reserves nothing. Returns the device, open. */
static int bind_loop(int image, const char *path, char device[32])
{
	int control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "loop-control");
	for (;;) {
		snprintf(device, 32, "/dev/loop%d", must(ioctl(control, LOOP_CTL_GET_FREE), "LOOP_CTL_GET_FREE"));
		int loop = open(device, O_RDWR | O_CLOEXEC);
		if (loop < 0 && (errno == ENOENT || errno == ENXIO || errno == EBUSY))
			continue;
		must(loop, device);
		/* 512: with 0 the driver takes 4096 for direct I/O, which an xfs of 512-byte sectors refuses. */
		struct loop_config config = {
			.fd = image,
			.block_size = 512,
			.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
		};
		snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%.*s", LO_NAME_SIZE - 1, path);
		if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
			close(control);
			return loop;
		}
		if (errno != EBUSY)
			fail("LOOP_CONFIGURE");
		close(loop);
	}
}

static int child_main(void *unused)
{
	(void)unused;
	_exit(0);
}

static void write_map(pid_t child, const char *file, const char *text)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", child, file);
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), path);
	must(write(fd, text, strlen(text)), path);
	close(fd);
}

/* The cheapest way there is: a child that shares all but the namespace, and is asked as a zombie. */
static int user_namespace(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	char text[64], path[64];
	pid_t child = must(clone(child_main, stack + sizeof stack, CLONE_NEWUSER | CLONE_VM | CLONE_VFORK | CLONE_FILES, NULL), "clone");
	snprintf(text, sizeof text, "0 %u %d\n", host_id, ID_COUNT);
	write_map(child, "uid_map", text);
	write_map(child, "gid_map", text);
	snprintf(path, sizeof path, "/proc/%d/ns/user", child);
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	must(waitpid(child, NULL, __WALL), "waitpid");
	return fd;
}

static void attach(const char *name)
{
	char image[4096], mount_path[4096], device[32];
	snprintf(image, sizeof image, "%s/%s", snapshot_dir, name);
	snprintf(mount_path, sizeof mount_path, "%s/%s", mount_dir, name);
	begin();

	int from = must(open(template_path, O_RDONLY | O_CLOEXEC), template_path);
	int to = must(open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), image);
	must(ioctl(to, FICLONE, from), "FICLONE");
	close(from);
	phase("clone");

	int loop = bind_loop(to, image, device);
	close(to);
	phase("loop");

	int context = must(syscall(SYS_fsopen, fs_type, FSOPEN_CLOEXEC), "fsopen");
	must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", device, 0), "source");
	if (strcmp(fs_type, "xfs") == 0)
		must(syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "nouuid", NULL, 0), "nouuid");
	else
		must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "errors", "remount-ro", 0), "errors");
	must(syscall(SYS_fsconfig, context, CMD_CREATE_EXCL, NULL, NULL, 0), "create");
	phase("create");

	int mount = must(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV), "fsmount");
	close(context);
	phase("fsmount");

	int userns = user_namespace();
	phase("userns");

	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = userns};
	must(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attr, sizeof attr), "mount_setattr");
	close(userns);
	phase("idmap");

	must(mkdir(mount_path, 0700), mount_path);
	must(syscall(SYS_move_mount, mount, "", AT_FDCWD, mount_path, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
	close(mount);
	close(loop);
	phase("place");
	end("attach", name);
}

/* The device of the mount, before it is gone: its number is all that is left to ask afterwards. */
static void backing_file_of(const char *mount_path, char path[128])
{
	struct stat status;
	must(stat(mount_path, &status), mount_path);
	snprintf(path, 128, "/sys/dev/block/%u:%u/loop/backing_file", major(status.st_dev), minor(status.st_dev));
}

static void detach(const char *name)
{
	char image[4096], mount_path[4096], backing_file[128];
	snprintf(image, sizeof image, "%s/%s", snapshot_dir, name);
	snprintf(mount_path, sizeof mount_path, "%s/%s", mount_dir, name);
	begin();
	backing_file_of(mount_path, backing_file);
	must(syscall(SYS_umount2, mount_path, UMOUNT_NOFOLLOW_FLAG), "umount2");
	phase("umount");
	must(rmdir(mount_path), "rmdir");
	phase("rmdir");
	while (access(backing_file, F_OK) == 0)
		usleep(50);
	phase("released");
	must(unlink(image), "unlink");
	phase("unlink");
	end("detach", name);
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: floor TEMPLATE SNAPSHOT-DIR MOUNT-DIR ext4|xfs HOST-ID [COUNT]\n");
		return 2;
	}
	template_path = argv[1];
	snapshot_dir = argv[2];
	mount_dir = argv[3];
	fs_type = argv[4];
	host_id = strtoul(argv[5], NULL, 10);
	char line[256], op[16], name[200];
	if (argc > 6) {
		for (long i = 0, count = atol(argv[6]); i < count; i++) {
			snprintf(name, sizeof name, "floor-%ld", i);
			attach(name);
			detach(name);
		}
		return 0;
	}
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%15s %199s", op, name) != 2)
			return 2;
		if (strcmp(op, "attach") == 0)
			attach(name);
		else
			detach(name);
	}
	return 0;
}

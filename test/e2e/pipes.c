/* hold COUNT: opens so many pipes, leaves them to a process in the background, prints its id. size: prints the capacity of a new pipe. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void new_pipe(int fds[2]) {
  if (pipe(fds) == 0) return;
  perror("pipe");
  exit(1);
}

int main(int argc, char **argv) {
  int fds[2];
  if (argc == 2 && strcmp(argv[1], "size") == 0) {
    new_pipe(fds);
    printf("%d\n", fcntl(fds[0], F_GETPIPE_SZ));
    return 0;
  }
  if (argc != 3 || strcmp(argv[1], "hold") != 0) return 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  for (int i = 0; i < atoi(argv[2]); i++) new_pipe(fds);
  pid_t child = fork();
  if (child < 0) {
    perror("fork");
    return 1;
  }
  if (child > 0) {
    printf("%d\n", child);
    return 0;
  }
  /* Whoever started us waits for the end of its own pipes. */
  for (int fd = 0; fd < 3; fd++) close(fd);
  for (;;) pause();
}

"""A command in a terminal of its own. argv: rows, columns, command...; standard input: a JSON object a line, {"keys": text}, {"signal": name}
or {"size": [rows, columns]}; standard output: {"text": ...} as it is drawn, at the end {"exit": status, "cooked": whether the line discipline is
as it was}."""
import fcntl, json, os, pty, select, signal, struct, sys, termios


def size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


rows, columns = int(sys.argv[1]), int(sys.argv[2])
# The other end is kept open here too: what the discipline is can be asked after the command has ended.
master, slave = pty.openpty()
size(slave, rows, columns)
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.closerange(3, 256)
    os.execvp(sys.argv[3], sys.argv[3:])
orders = b""
watched = [master, 0]
ended = None
while True:
    ready = select.select(watched, [], [], 0.05)[0]
    if master in ready:
        say(text=os.read(master, 65536).decode("utf-8", "replace"))
    if 0 in ready:
        read = os.read(0, 65536)
        if not read:
            watched.remove(0)
        orders += read
        *lines, orders = orders.split(b"\n")
        for order in map(json.loads, lines):
            if "keys" in order:
                os.write(master, order["keys"].encode())
            if "signal" in order:
                os.kill(child, getattr(signal, order["signal"]))
            if "size" in order:
                size(slave, *order["size"])
    if ended is not None and master not in ready:
        break
    if ended is None:
        done, status = os.waitpid(child, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(status) if done else None
say(exit=ended, cooked=termios.tcgetattr(slave)[:4] == before[:4])

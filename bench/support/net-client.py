# What a box measures of its network: milliseconds of one kind of use, to a server of net-servers.mjs. A name stands for a
# list by name; it is looked up once, before. The first byte is none of HTTP, of which a whole line would be waited for.
import selectors, socket, sys, time

kind, host, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
address = socket.gethostbyname(host)
MIB = 1 << 20


def connect(port):
    client = socket.create_connection((address, port), 60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def one(port=7003):
    with connect(port) as client:
        client.sendall(b"\0")
        client.recv(1)


def connects():
    """The median of connections one after the other, up to the answer to a first byte."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        one()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def sends():
    block = bytes(MIB)
    began = time.perf_counter()
    with connect(7001) as client:
        for _ in range(count):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        if client.recv(1) != b".":
            raise SystemExit("the end did not come")
    return time.perf_counter() - began


def receives():
    buffer, got = bytearray(MIB), 0
    began = time.perf_counter()
    with connect(7002) as client:
        client.sendall(b"%d\n" % count)
        while size := client.recv_into(buffer):
            got += size
    if got != count * MIB:
        raise SystemExit("it ended early")
    return time.perf_counter() - began


def parallel():
    """So many connections at once, each up to the answer to a byte."""
    waiting, open_sockets = selectors.DefaultSelector(), []
    began = time.perf_counter()
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((address, 7003))
        waiting.register(client, selectors.EVENT_WRITE)
        open_sockets.append(client)
    left = count
    while left:
        ready = waiting.select(60)
        if not ready:
            raise SystemExit("%d were lost" % left)
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(b"\0")
                waiting.modify(key.fileobj, selectors.EVENT_READ)
            elif key.fileobj.recv(1) == b"\0":
                waiting.unregister(key.fileobj)
                left -= 1
            else:
                raise SystemExit("one ended")
    took = time.perf_counter() - began
    for client in open_sockets:
        client.close()
    return took


print(1000 * {"connects": connects, "sends": sends, "receives": receives, "parallel": parallel}[kind]())

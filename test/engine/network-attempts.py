# What root in a box tries to get around its list; prints what came of each attempt. Arguments: the address of a.test, the
# address of another host, the address of the host that runs the box.
import json, os, socket, ssl, struct, sys

allowed, other, host = sys.argv[1:4]
results = {}


def connection(address, port):
    found = socket.create_connection((address, port), timeout=10)
    found.settimeout(10)
    return found


def attempt(name):
    def run(task):
        try:
            results[name] = task()
        except Exception as error:
            results[name] = type(error).__name__
    return run


def http(text, port=80):
    with connection(allowed, port) as peer:
        peer.sendall(text.encode())
        answer = b''
        while True:
            piece = peer.recv(65536)
            if not piece:
                return answer.decode().splitlines()[-1] if answer else 'nothing'
            answer += piece
            if b'b.test' in answer:
                return answer.decode()


def tls(name, address=allowed, port=443):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(connection(address, port), server_hostname=name) as peer:
        peer.sendall(b'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
        answer = b''
        while True:
            piece = peer.recv(65536)
            if not piece:
                return answer.decode().splitlines()[-1]
            answer += piece


close = 'Connection: close\r\n\r\n'
socket.gethostbyname('a.test')
# What is allowed.
attempt('http')(lambda: http('GET / HTTP/1.1\r\nHost: a.test\r\n' + close))
attempt('https')(lambda: tls('a.test'))
attempt('raw')(lambda: connection('a.test', 2222).recv(6).decode().strip())
attempt('closed port')(lambda: connection('a.test', 9).recv(1))
# Other names.
attempt('resolve')(lambda: socket.gethostbyname('b.test'))
attempt('sni')(lambda: tls('b.test'))
attempt('sni elsewhere')(lambda: tls('b.test', allowed, 8080))
attempt('no sni')(lambda: tls(None))
attempt('host')(lambda: http('GET / HTTP/1.1\r\nHost: b.test\r\n' + close))
attempt('host elsewhere')(lambda: http('GET / HTTP/1.1\r\nHost: b.test\r\n' + close, 8080))
attempt('second host')(lambda: http('GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: b.test\r\n' + close))
attempt('absolute')(lambda: http('GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n' + close))
attempt('connect')(lambda: http('CONNECT b.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n'))
attempt('h2c')(lambda: http('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'))
attempt('blank lines')(lambda: http('\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n' + close, 8080))
attempt('bare lines')(lambda: http('GET / HTTP/1.1\nHost: b.test\nConnection: close\n\n', 8080))
attempt('smuggled')(lambda: http(
    'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
    'GET /3 HTTP/1.1\r\nHost: b.test\r\n' + close))
# Other addresses.
for name, address, port in [
    ('other', other, 80), ('other tls', other, 443), ('this host', host, 22), ('gateway', '10.0.2.2', 22),
    ('metadata', '169.254.169.254', 80), ('loopback', '127.1.2.3', 80)]:
    attempt(name)(lambda: connection(address, port).recv(1))
attempt('inside')(lambda: socket.gethostbyname('inside.test'))


def datagram(port, content):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.connect((allowed, port))
        peer.send(content)
        return peer.recv(100).decode()


attempt('udp')(lambda: datagram(9999, b'hello'))
attempt('own resolver')(lambda: datagram(53, b'\0\1\1\0\0\1\0\0\0\0\0\0\1b\4test\0\0\1\0\1'))


# Frames as nobody's IP stack makes them.
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total > 0xffff:
        total = (total >> 16) + (total & 0xffff)
    return ~total & 0xffff


def frame(source, flags, options=b'', protocol=17, body=struct.pack('!HHHH', 5, 9999, 12, 0) + b'evil'):
    size = 20 + len(options)
    head = lambda value: struct.pack('!BBHHHBBH', 0x40 | size // 4, 0, size + len(body), 1, flags, 64, protocol, value)
    addresses = socket.inet_aton(source) + socket.inet_aton(allowed)
    header = head(checksum(head(0) + addresses + options)) + addresses + options
    return bytes.fromhex('52550a000202') + b'\x52\x54\0\7\7\7' + b'\x08\0' + header + body


with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    wire.bind(('eth0', 0))
    wire.send(frame('10.0.2.15', 0))
    wire.send(frame('10.0.2.77', 0))
    wire.send(frame(host, 0))
    wire.send(frame('10.0.2.15', 0x2000))
    wire.send(frame('10.0.2.15', 1))
    wire.send(frame('10.0.2.15', 0, b'\x83\x07\x04' + socket.inet_aton(other) + b'\0'))
    wire.send(frame('10.0.2.15', 0, protocol=47))
    wire.send(bytes(range(256)) * 5)
    wire.send(b'\0' * 14)
# What was sent before was looked at by now, and everything works still.
attempt('afterwards')(lambda: http('GET /after HTTP/1.1\r\nHost: a.test\r\n' + close))
print(json.dumps(results))

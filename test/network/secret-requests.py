# Requests of a box with a secret, of kinds that a program of few lines makes. Its only argument says which.
import base64, hashlib, http.client, json, os, socket, ssl, sys

HOST = "api.test"
KEY = {"x-key": os.environ["API_KEY"]}
MIB = 1 << 20


def connect():
    return http.client.HTTPSConnection(HOST, timeout=60)


def ask(connection, method="GET", path="/", body=None, headers={}, **more):
    connection.request(method, path, body, {**KEY, **headers}, **more)
    answer = connection.getresponse()
    return json.loads(answer.read())


def chunked():
    """Bodies of every form, one after the other on one connection."""
    connection = connect()
    pieces = [b"one", b"two" * 1000, b"x"]
    answers = [
        ask(connection),
        ask(connection, "POST", "/a", iter(pieces), {"transfer-encoding": "chunked"}, encode_chunked=True),
        ask(connection, "PUT", "/b", b"body"),
        ask(connection, "DELETE", "/c"),
    ]
    return [[each["served"], each["headers"]["x-key"], each["bytes"], each["sha256"]] for each in answers]


def dropped():
    """What a client sees of a server that ends a connection that has served."""
    connection = connect()
    ask(connection)
    try:
        return ask(connection, headers={"x-drop": "1"})
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return "ended"


def upload():
    count = int(sys.argv[2])
    block = bytes(MIB)
    answer = ask(connect(), "POST", "/up", (block for _ in range(count)), {"content-length": str(count * MIB)})
    return [answer["headers"]["x-key"], answer["bytes"]]


def download():
    connection = connect()
    connection.request("GET", "/bytes/" + sys.argv[2], headers=KEY)
    answer, count = connection.getresponse(), 0
    while piece := answer.read(MIB):
        count += len(piece)
    return count


def slow():
    """Begins an upload, and says how it goes when a line is read."""
    connection = connect()
    connection.putrequest("POST", "/slow")
    for name, value in {**KEY, "content-length": "2000000"}.items():
        connection.putheader(name, value)
    connection.endheaders(bytes(1000))
    print("begun", flush=True)
    sys.stdin.readline()
    try:
        connection.send(bytes(1999000))
        return connection.getresponse().status
    except OSError as error:
        return type(error).__name__


def websocket():
    context = ssl.create_default_context()
    with context.wrap_socket(socket.create_connection((HOST, 443), 60), server_hostname=HOST) as client:
        return converse(client)


def plain_websocket():
    with socket.create_connection((HOST, 80), 60) as client:
        return converse(client)


def converse(client):
    """A frame that is echoed (RFC 6455, sections 4.1 and 5.2), with the placeholder in the handshake and in the frame."""
    lines = ["GET /ws HTTP/1.1", "Host: " + HOST, "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()]
    lines += ["X-Key: " + KEY["x-key"], "", ""]
    text = KEY["x-key"].encode()
    mask = b"\1\2\3\4"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    client.sendall("\r\n".join(lines).encode())
    got = client.makefile("rb")
    status = got.readline().split()[1].decode()
    while got.readline() != b"\r\n":
        pass
    client.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
    head = got.read(2)
    return [status, got.read(head[1]).decode() == text.decode()]


kinds = [chunked, dropped, upload, download, slow, websocket, plain_websocket]
print(json.dumps({kind.__name__: kind for kind in kinds}[sys.argv[1]]()), flush=True)

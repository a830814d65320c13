/** Lines of a `do_GET` of Python's `BaseHTTPRequestHandler` that say what a WebSocket says, in short frames (RFC 6455). */
export const webSocketEcho = `        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"].encode()
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
            while len(frame := self.rfile.read(2)) == 2:
                mask = self.rfile.read(4)
                said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(frame[1] & 127)))
                self.wfile.write(bytes([frame[0], len(said)]) + said)
            self.close_connection = True
            return`;

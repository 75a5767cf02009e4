"""A member of a room over wss, by python's `websockets` and OpenSSL.

client.py URL ROOT ROOM: trusts the root alone, joins, says `{"ready": ...}`, then each message as it came. Leaves when
standard input ends.
"""

import json
import ssl
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, root, room = sys.argv[1:]
context = ssl.create_default_context(cafile=root)

with connect(url, ssl=context, max_size=None) as ws:
    ws.send(json.dumps({"event": "authenticate", "data": {"token": "python", "userId": "python"}}))
    assert json.loads(ws.recv(timeout=20))["event"] == "connected"
    ws.send(json.dumps({"event": "join", "data": {"rooms": [room]}}))
    # Answered once everything before it is handled.
    assert ws.ping().wait(timeout=20)
    print(json.dumps({"ready": ws.socket.version()}), flush=True)

    def leave():
        sys.stdin.read()
        ws.close()

    threading.Thread(target=leave, daemon=True).start()
    try:
        for message in ws:
            print(json.dumps({"text": message}), flush=True)
    except ConnectionClosed as error:
        sys.exit(f"not closed in order: {error}")
    assert ws.close_code == 1000, ws.close_code

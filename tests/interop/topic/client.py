"""A subscriber of a topic, by python's `websockets`.

client.py URL TOKEN TOPIC: authorizes, subscribes, says `{"ready": ...}`, then each message as it came. Leaves when standard
input ends.
"""

import json
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, token, topic = sys.argv[1:]

with connect(url, max_size=None) as ws:
    hello = json.loads(ws.recv(timeout=20))
    assert hello == {"action": "connect", "message": "connection established"}, hello
    session = json.loads(ws.recv(timeout=20))
    assert session["message"] == "waiting for create session", session

    def ask(action, context):
        ws.send(json.dumps({"action": action, "session": session["session"], "context": context}))
        return json.loads(ws.recv(timeout=20))["message"]

    answers = [ask("authorization", token), ask("subscribe", topic)]
    print(json.dumps({"ready": answers}), flush=True)

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

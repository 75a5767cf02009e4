"""Tokens of PyJWT for Shardcast, and Shardcast's for PyJWT.

`tokens.py make <issuer>` prints a set of public keys, a secret, and a token of each algorithm. `tokens.py check` reads
a list of {"alg", "key", "token"} from standard input, checks each, and prints what they say; it fails at the first that
is not good.
"""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ALGORITHMS = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
]
SECRET = "a secret of PyJWT that is long enough for each of HS256, HS384 and HS512"


def private_key(algorithm):
    match algorithm[:2], algorithm[-3:]:
        case "ES", "256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES", "384":
            return ec.generate_private_key(ec.SECP384R1())
        case "Ed", _:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, 2048)


def make(issuer):
    keys, tokens = [], []
    for algorithm in ALGORITHMS:
        claims = {"sub": f"user of {algorithm}", "exp": time.time() + 600, "iat": time.time()}
        key, headers = SECRET, {}
        if not algorithm.startswith("HS"):
            key = private_key(algorithm)
            headers = {"kid": algorithm}
            claims["iss"] = issuer
            public = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
            keys.append({**public, "kid": algorithm, "use": "sig", "alg": algorithm})
        tokens.append({"alg": algorithm, "token": jwt.encode(claims, key, algorithm=algorithm, headers=headers)})
    json.dump({"jwks": {"keys": keys}, "secret": SECRET, "tokens": tokens}, sys.stdout)


def check():
    said = [jwt.decode(given["token"], given["key"], algorithms=[given["alg"]]) for given in json.load(sys.stdin)]
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    check() if sys.argv[1] == "check" else make(sys.argv[2])

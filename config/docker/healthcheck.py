"""The image's health check: exit 0 when the exporter answers, over HTTP or TLS.

The certificate is not verified: it bears another name than localhost, and this asks only whether
somebody is there. A server that turns away a client without a certificate is there, too.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

PORT = int(os.environ.get("HEALTHCHECK_PORT", "10042"))
PREFIX = os.environ.get("HEALTHCHECK_PREFIX", "").rstrip("/")  # as --web.route-prefix
TIMEOUT = 2.0  # seconds


def answers(connection: HTTPConnection) -> bool:
    connection.request("GET", PREFIX + "/-/healthy")
    return connection.getresponse().status == 200


def answers_over_tls() -> bool:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection("localhost", PORT, timeout=TIMEOUT, context=anybody)
    try:
        connection.connect()
    except ssl.SSLError as error:  # TLS 1.2 asks for the certificate in the handshake
        return "ALERT" in str(error).upper()
    try:
        return answers(connection)
    except (ssl.SSLError, ConnectionError):  # TLS 1.3 asks for it afterwards
        return True


def main() -> int:
    try:
        if answers(HTTPConnection("localhost", PORT, timeout=TIMEOUT)):
            return 0
    except ConnectionRefusedError:
        return 1
    except (OSError, HTTPException):
        pass  # perhaps it speaks TLS
    try:
        return 0 if answers_over_tls() else 1
    except (OSError, HTTPException):
        return 1


if __name__ == "__main__":
    sys.exit(main())

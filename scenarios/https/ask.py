"""What a URL answers: the status and the text. A second argument is the certificate that is trusted."""

import sys

import requests

answer = requests.get(sys.argv[1], verify=sys.argv[2] if len(sys.argv) > 2 else True, timeout=10)
print(answer.status_code, answer.text)

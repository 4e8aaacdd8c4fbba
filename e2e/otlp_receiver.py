#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Receives metrics over OTLP/HTTP, decodes them with OpenTelemetry's own messages, and writes what it got.

The first line of standard output is the port it listens on, on 127.0.0.1; each export is then one line of JSON, in
protobuf's mapping, before it is acknowledged. It ends when standard input does.
"""

import gzip
import http.server
import json
import sys
import threading

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        request = service.ExportMetricsServiceRequest()
        if self.headers["content-type"] == "application/json":
            json_format.Parse(body, request)
            answer = b"{}"
        else:
            request.ParseFromString(body)
            answer = service.ExportMetricsServiceResponse().SerializeToString()
        print(json.dumps(json_format.MessageToDict(request)), flush=True)
        self.send_response(200 if self.path == "/v1/metrics" else 404)
        self.send_header("content-type", self.headers["content-type"])
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()

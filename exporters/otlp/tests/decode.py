#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decodes exports with OpenTelemetry's own messages.

Standard input has pairs of lines: a request in protobuf, as hexadecimal digits, and the same in JSON. For each pair
standard output has a line of JSON with what protobuf's own library makes of the first. The exit status is 1 if it would
write it with other bytes, or if the second is another request.
"""

import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Request

for line in sys.stdin:
    binary = bytes.fromhex(line)
    request = Request.FromString(binary)
    if request.SerializeToString(deterministic=True) != binary:
        sys.exit("protobuf would write other bytes")
    if json_format.Parse(next(sys.stdin), Request()) != request:
        sys.exit("JSON says something else")
    print(json.dumps(json_format.MessageToDict(request)))

# SPDX-License-Identifier: Apache-2.0
"""Prints what prometheus-client reads in a document of this format: type, name, labels and value of each sample."""

import json
import sys

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

read = {"text": parser, "openmetrics": openmetrics}[sys.argv[1]].text_fd_to_metric_families
for family in read(open(0, encoding="utf-8", newline="\n")):
    for sample in family.samples:
        print(json.dumps([family.type, sample.name, sample.labels, repr(float(sample.value))]))

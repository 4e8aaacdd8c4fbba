#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One NIXL agent, driven through NIXL's own Python binding.

Makes an agent and a backend, registers memory, deregisters it and ends. It works on every release with telemetry
plugins, also on 0.9.0 and 0.10.0, which have no C API. Telemetry is configured, as always, by the environment of this
process.

Standard output is one line of JSON:

    {"version": "0.9.0",        the release, as its metadata states it
     "library": "/…/nixl_cu12", folder of the binding that was imported
     "agent": "python-agent",
     "plugins": ["POSIX"],      backends the agent offers, sorted
     "refused": {"UCX": "…"},   backends that were tried first, and why they did not load
     "backend": "POSIX",        the backend used
     "registered": [4096]}      bytes of each registration, all deregistered again

The exit status is 0 if all of this happened. Otherwise it is 1, and standard error says why.
"""

import argparse
import ctypes
import json
import os
import sys
import time
from importlib import metadata


# Left to itself, UCX listens on every interface. With these it uses this machine's memory and no network.
PARAMETERS = {"UCX": {"engine_config": "TLS=sm", "ucx_error_handling_mode": "none"}}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Run one NIXL agent through NIXL's Python binding.")
    parser.add_argument("--name", default="python-agent", help="name of the agent (default: %(default)s)")
    parser.add_argument(
        "--backend",
        action="append",
        help="backend to use; repeat it to name the next to try (default: UCX, then POSIX)",
    )
    parser.add_argument(
        "--register",
        type=int,
        action="append",
        metavar="BYTES",
        help="register and deregister this many bytes; may be repeated (default: 4096)",
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long before the agent ends, because NIXL drops what it has not yet exported (default: 0)",
    )
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or ["UCX", "POSIX"]
    arguments.register = arguments.register or [4096]
    return arguments


def import_binding():
    """Returns the module and the version of the binding: CUDA 12's if it is there, else CUDA 13's."""
    try:
        import nixl_cu12
        import nixl_cu12._api as api

        return api, nixl_cu12, metadata.version("nixl-cu12")
    except ModuleNotFoundError as error:
        if error.name != "nixl_cu12":
            raise
    import nixl_cu13
    import nixl_cu13._api as api

    return api, nixl_cu13, metadata.version("nixl-cu13")


def create_backend(agent, names):
    """Creates the first of `names` that loads; returns its name and why those before it did not."""
    refused = {}
    for name in names:
        try:
            agent.create_backend(name, PARAMETERS.get(name, {}))
            return name, refused
        except Exception as error:  # each release raises its own classes
            refused[name] = str(error)
    sys.exit(f"no backend loads: {refused}")


def main():
    arguments = parse_arguments()
    # The binding reports what it does on standard output up to INFO; ours carries the JSON.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    api, binding, version = import_binding()
    agent = api.nixl_agent(arguments.name, api.nixl_agent_config(backends=[]))
    plugins = sorted(agent.get_plugin_list())
    backend, refused = create_backend(agent, arguments.backend)

    for size in arguments.register:
        memory = ctypes.create_string_buffer(size)
        described = agent.get_reg_descs([(ctypes.addressof(memory), size, 0, "")], "DRAM")
        registration = agent.register_memory(described, backends=[backend])
        agent.deregister_memory(registration, backends=[backend])

    time.sleep(arguments.linger)
    # Here and not at interpreter exit, where the order of destruction is nobody's choice.
    del agent

    json.dump(
        {
            "version": version,
            "library": os.path.dirname(os.path.abspath(binding.__file__)),
            "agent": arguments.name,
            "plugins": plugins,
            "refused": refused,
            "backend": backend,
            "registered": arguments.register,
        },
        output,
    )
    output.write("\n")
    output.close()


if __name__ == "__main__":
    main()

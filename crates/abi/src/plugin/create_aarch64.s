// SPDX-License-Identifier: Apache-2.0
// create_exporter on AArch64: C++ passes the place for the returned unique_ptr in x8, outside the argument list.
// Moves the parameters (x0) to the second argument, the place to the first, and continues in {create}.
mov x1, x0
mov x0, x8
b {create}

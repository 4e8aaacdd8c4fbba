// SPDX-License-Identifier: Apache-2.0

//! The exported functions: NIXL's symbols, and where each leads.
//!
//! Each is a few instructions that look whose object it is, where there is one already, and pass on, in the sixth argument
//! register, where the call returns to, where somebody wants to know. No function of NIXL's collector has more than five
//! arguments. C++ calls a member function of no object that is null.

use crate::entry;
use crate::functions::symbol;
use crate::members::{self, ours, theirs};
use crate::object::{KEEPS_TRANSFERS_AT, TAG, TAG_AT};

macro_rules! lifetimes {
    ($($name:ident = $function:ident,)+) => {$(
        #[unsafe(export_name = symbol!($function))]
        #[unsafe(naked)]
        unsafe extern "C-unwind" fn $name() {
            #[cfg(target_arch = "x86_64")]
            core::arch::naked_asm!("mov r9, [rsp]", "jmp {entry}", entry = sym entry::$name);
            #[cfg(target_arch = "aarch64")]
            core::arch::naked_asm!("mov x5, x30", "b {entry}", entry = sym entry::$name);
        }
    )+};
}

lifetimes! {
    construct_0_9 = ConstructWithBackends,
    construct_1_0 = Construct,
    construct_1_4 = ConstructWithExporter,
    destroy = Destroy,
}

/// An object of ours holds the address of [`TAG`].
macro_rules! members {
    ($($name:ident = $function:ident;)+) => {$(
        #[unsafe(export_name = symbol!($function))]
        #[unsafe(naked)]
        unsafe extern "C-unwind" fn $name() {
            #[cfg(target_arch = "x86_64")]
            core::arch::naked_asm!(
                "lea rax, [rip + {tag}]",
                "cmp [rdi + {tag_at}], rax",
                "jne 2f",
                "jmp {ours}",
                "2:",
                "mov r9, [rsp]",
                "jmp {theirs}",
                tag = sym TAG,
                tag_at = const TAG_AT,
                ours = sym ours::$name,
                theirs = sym theirs::$name,
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::naked_asm!(
                "adrp x9, {tag}",
                "add x9, x9, :lo12:{tag}",
                "ldr x10, [x0, {tag_at}]",
                "cmp x9, x10",
                "b.ne 2f",
                "b {ours}",
                "2:",
                "mov x5, x30",
                "b {theirs}",
                tag = sym TAG,
                tag_at = const TAG_AT,
                ours = sym ours::$name,
                theirs = sym theirs::$name,
            );
        }
    )+};
}

members! {
    add_post_time = AddPostTime;
    add_xfer_time = AddXferTime;
    update_error_count = UpdateErrorCount;
    update_memory_registered = UpdateMemoryRegistered;
    update_memory_deregistered = UpdateMemoryDeregistered;
    update_data = UpdateData;
    update_data_in_category = UpdateDataInCategory;
    update_data_by_name = UpdateDataByName;
    update_tx_bytes = UpdateTxBytes;
    update_rx_bytes = UpdateRxBytes;
    update_tx_requests_num = UpdateTxRequestsNum;
    update_rx_requests_num = UpdateRxRequestsNum;
    flush_pending_events = FlushPendingEvents;
    start_export_task = StartExportTask;
}

/// The same, which besides leaves at once where nothing of a transfer is recorded.
#[unsafe(export_name = symbol!(AddXferStats))]
#[unsafe(naked)]
unsafe extern "C-unwind" fn add_xfer_stats() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "lea rax, [rip + {tag}]",
        "cmp [rdi + {tag_at}], rax",
        "jne 2f",
        "cmp byte ptr [rdi + {keeps_at}], 0",
        "je 3f",
        "jmp {ours}",
        "2:",
        "mov r9, [rsp]",
        "jmp {theirs}",
        "3:",
        "ret",
        tag = sym TAG,
        tag_at = const TAG_AT,
        keeps_at = const KEEPS_TRANSFERS_AT,
        ours = sym members::add_xfer_stats,
        theirs = sym theirs::add_xfer_stats,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "adrp x9, {tag}",
        "add x9, x9, :lo12:{tag}",
        "ldr x10, [x0, {tag_at}]",
        "cmp x9, x10",
        "b.ne 2f",
        "ldrb w10, [x0, {keeps_at}]",
        "cbz w10, 3f",
        "b {ours}",
        "2:",
        "mov x5, x30",
        "b {theirs}",
        "3:",
        "ret",
        tag = sym TAG,
        tag_at = const TAG_AT,
        keeps_at = const KEEPS_TRANSFERS_AT,
        ours = sym members::add_xfer_stats,
        theirs = sym theirs::add_xfer_stats,
    );
}

/// Besides, C++ passes the place for the result: on x86-64 as the first argument, as [`entry::create`] has it, on AArch64
/// in `x8`.
#[unsafe(export_name = symbol!(Create))]
#[unsafe(naked)]
unsafe extern "C-unwind" fn create() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov r9, [rsp]", "jmp {entry}", entry = sym entry::create);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x5, x30", "mov x1, x0", "mov x0, x8", "b {entry}", entry = sym entry::create);
}

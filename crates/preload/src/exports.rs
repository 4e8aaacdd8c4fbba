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

/// An object of ours holds the address of [`TAG`]. What is said `unless` is done for it first, and may leave by `3`.
macro_rules! members {
    ($(
        $name:ident = $function:ident, $ours:path
        $(, unless { x86_64: $x86_64:literal, aarch64: $aarch64:literal, at: $at:expr })?;
    )+) => {$(
        #[unsafe(export_name = symbol!($function))]
        #[unsafe(naked)]
        unsafe extern "C-unwind" fn $name() {
            #[cfg(target_arch = "x86_64")]
            core::arch::naked_asm!(
                "lea rax, [rip + {tag}]",
                "cmp [rdi + {tag_at}], rax",
                "jne 2f",
                $($x86_64,)?
                "jmp {ours}",
                "2:",
                "mov r9, [rsp]",
                "jmp {theirs}",
                "3:",
                "ret",
                tag = sym TAG,
                tag_at = const TAG_AT,
                $(at = const $at,)?
                ours = sym $ours,
                theirs = sym theirs::$name,
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::naked_asm!(
                "adrp x9, {tag}",
                "add x9, x9, :lo12:{tag}",
                "ldr x10, [x0, {tag_at}]",
                "cmp x9, x10",
                "b.ne 2f",
                $($aarch64,)?
                "b {ours}",
                "2:",
                "mov x5, x30",
                "b {theirs}",
                "3:",
                "ret",
                tag = sym TAG,
                tag_at = const TAG_AT,
                $(at = const $at,)?
                ours = sym $ours,
                theirs = sym theirs::$name,
            );
        }
    )+};
}

members! {
    add_post_time = AddPostTime, ours::add_post_time;
    add_xfer_time = AddXferTime, ours::add_xfer_time;
    add_xfer_stats = AddXferStats, members::add_xfer_stats, unless {
        x86_64: "cmp byte ptr [rdi + {at}], 0; je 3f",
        aarch64: "ldrb w10, [x0, {at}]; cbz w10, 3f",
        at: KEEPS_TRANSFERS_AT
    };
    update_error_count = UpdateErrorCount, ours::update_error_count;
    update_memory_registered = UpdateMemoryRegistered, ours::update_memory_registered;
    update_memory_deregistered = UpdateMemoryDeregistered, ours::update_memory_deregistered;
    update_data = UpdateData, ours::update_data;
    update_data_in_category = UpdateDataInCategory, ours::update_data_in_category;
    update_data_by_name = UpdateDataByName, ours::update_data_by_name;
    update_tx_bytes = UpdateTxBytes, ours::update_tx_bytes;
    update_rx_bytes = UpdateRxBytes, ours::update_rx_bytes;
    update_tx_requests_num = UpdateTxRequestsNum, ours::update_tx_requests_num;
    update_rx_requests_num = UpdateRxRequestsNum, ours::update_rx_requests_num;
    flush_pending_events = FlushPendingEvents, ours::flush_pending_events;
    start_export_task = StartExportTask, ours::start_export_task;
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

// SPDX-License-Identifier: Apache-2.0

//! The exported functions: NIXL's symbols, and where each leads.
//!
//! Each is two or three instructions that pass on, in the sixth argument register, where the call returns to. No function
//! of NIXL's collector has more than five arguments.

use crate::entry;
use crate::functions::symbol;

macro_rules! exports {
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

exports! {
    construct_0_9 = ConstructWithBackends,
    construct_1_0 = Construct,
    construct_1_4 = ConstructWithExporter,
    destroy = Destroy,
    add_post_time = AddPostTime,
    add_xfer_time = AddXferTime,
    add_xfer_stats = AddXferStats,
    update_error_count = UpdateErrorCount,
    update_memory_registered = UpdateMemoryRegistered,
    update_memory_deregistered = UpdateMemoryDeregistered,
    update_data = UpdateData,
    update_data_in_category = UpdateDataInCategory,
    update_data_by_name = UpdateDataByName,
    update_tx_bytes = UpdateTxBytes,
    update_rx_bytes = UpdateRxBytes,
    update_tx_requests_num = UpdateTxRequestsNum,
    update_rx_requests_num = UpdateRxRequestsNum,
    flush_pending_events = FlushPendingEvents,
    start_export_task = StartExportTask,
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

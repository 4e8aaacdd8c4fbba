// SPDX-License-Identifier: Apache-2.0

//! libstdc++'s `std::string`, read where it lies and made where it shall lie.

use core::{ffi::c_char, ptr, slice};

use crate::raw::CxxString;

/// Characters that fit the string object itself, without the NUL.
const LOCAL: usize = 15;

impl CxxString {
    /// The characters.
    ///
    /// # Safety
    /// The string must be a live `std::string` (or one made by [`CxxString::emplace`]) that is not changed while the
    /// result is used.
    pub unsafe fn as_bytes(&self) -> &[u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: a live string owns `len` initialised characters at `data`; the caller keeps it unchanged.
        unsafe { slice::from_raw_parts(self.data.cast(), self.len) }
    }

    /// Makes a string in place: short text inside the object, long text in memory that is never freed.
    ///
    /// The object must not be moved afterwards, nor destroyed by C++ if the text is longer than 15 bytes.
    ///
    /// # Safety
    /// `place` must be valid for writes.
    pub unsafe fn emplace(place: *mut Self, text: &str) {
        // SAFETY: the caller gives room for one string; every field is written through the raw pointer.
        unsafe {
            (*place).len = text.len();
            (*place).local = [0; 16];
            let data: *mut u8 = if text.len() <= LOCAL {
                let local = &raw mut (*place).local;
                ptr::copy_nonoverlapping(text.as_ptr(), local.cast(), text.len());
                local.cast()
            } else {
                let characters = Box::leak([text.as_bytes(), b"\0"].concat().into_boxed_slice());
                let capacity = (&raw mut (*place).local).cast::<u8>();
                ptr::copy_nonoverlapping(text.len().to_ne_bytes().as_ptr(), capacity, size_of::<usize>());
                characters.as_mut_ptr()
            };
            (*place).data = data.cast::<c_char>();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;

    #[test]
    fn short_text_lies_inside_long_text_outside() {
        for text in ["", "csv", "exactly-15-char", "sixteen-chars-xx", "a name that is longer than the object"] {
            let mut place = MaybeUninit::<CxxString>::uninit();
            // SAFETY: the place is valid for writes, and is not moved while the string is used.
            let string = unsafe {
                CxxString::emplace(place.as_mut_ptr(), text);
                place.assume_init_ref()
            };
            let inside = string.data.cast::<u8>() == string.local.as_ptr();
            assert_eq!(inside, text.len() <= LOCAL, "{text:?}");
            // SAFETY: made above, unchanged; the NUL behind the text is part of it.
            unsafe {
                assert_eq!(string.as_bytes(), text.as_bytes());
                assert_eq!(string.data.add(text.len()).read(), 0);
            }
        }
    }
}

//! Registers of a thread at a system call, by architecture. The layout of
//! `struct pt_regs` is ABI (`arch/*/include/uapi/asm/ptrace.h`).

#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    /// `struct pt_regs`, arch/x86/include/asm/ptrace.h.
    #[repr(C)]
    pub(crate) struct PtRegs {
        r15: u64,
        r14: u64,
        r13: u64,
        r12: u64,
        bp: u64,
        bx: u64,
        r11: u64,
        r10: u64,
        r9: u64,
        r8: u64,
        ax: u64,
        cx: u64,
        dx: u64,
        si: u64,
        di: u64,
        orig_ax: u64,
        ip: u64,
        cs: u64,
        flags: u64,
        sp: u64,
        ss: u64,
    }

    impl PtRegs {
        /// The arguments; those of a 32-bit call are in other registers.
        #[inline(always)]
        pub(crate) fn args(&self, compat: bool) -> [u64; 6] {
            if compat {
                [self.bx, self.cx, self.dx, self.si, self.di, self.bp]
                    .map(|register| register & 0xffff_ffff)
            } else {
                [self.di, self.si, self.dx, self.r10, self.r8, self.r9]
            }
        }

        /// The number of the call.
        #[inline(always)]
        pub(crate) fn nr(&self) -> i64 {
            // Negative numbers are 32 bits wide: the entry code extends eax.
            i64::from(self.orig_ax as i32)
        }
    }

    #[cfg(feature = "btf")]
    /// `TS_COMPAT`, arch/x86/include/asm/thread_info.h.
    pub(crate) const COMPAT_BIT: u32 = 0x0002;
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    /// The front of `struct pt_regs`, arch/arm64/include/asm/ptrace.h.
    #[repr(C)]
    pub(crate) struct PtRegs {
        regs: [u64; 31],
        sp: u64,
        pc: u64,
        pstate: u64,
        orig_x0: u64,
        syscallno: i32,
        unused: u32,
    }

    impl PtRegs {
        /// The arguments; the first register is overwritten by the result.
        #[inline(always)]
        pub(crate) fn args(&self, _compat: bool) -> [u64; 6] {
            let [_, b, c, d, e, f, ..] = self.regs;
            [self.orig_x0, b, c, d, e, f]
        }

        /// The number of the call.
        #[inline(always)]
        pub(crate) fn nr(&self) -> i64 {
            i64::from(self.syscallno)
        }
    }

    #[cfg(feature = "btf")]
    /// `_TIF_32BIT`, arch/arm64/include/asm/thread_info.h.
    pub(crate) const COMPAT_BIT: u32 = 1 << 22;
}

#[cfg(feature = "btf")]
pub(crate) use arch::COMPAT_BIT;
pub(crate) use arch::PtRegs;

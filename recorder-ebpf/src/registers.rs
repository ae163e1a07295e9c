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
        pub(crate) fn call_args(&self, compat: bool) -> [u64; 6] {
            if compat {
                [self.bx, self.cx, self.dx, self.si, self.di, self.bp]
                    .map(|register| register & 0xffff_ffff)
            } else {
                [self.di, self.si, self.dx, self.r10, self.r8, self.r9]
            }
        }

        /// The number of the call.
        #[inline(always)]
        pub(crate) fn call_nr(&self) -> i64 {
            // Negative numbers are 32 bits wide: the entry code extends eax.
            i64::from(self.orig_ax as i32)
        }
    }

    /// Where the arguments lie.
    #[cfg(not(feature = "btf"))]
    pub(crate) const ARG_OFFSETS: [usize; 6] = [
        core::mem::offset_of!(PtRegs, di),
        core::mem::offset_of!(PtRegs, si),
        core::mem::offset_of!(PtRegs, dx),
        core::mem::offset_of!(PtRegs, r10),
        core::mem::offset_of!(PtRegs, r8),
        core::mem::offset_of!(PtRegs, r9),
    ];

    /// Where the number lies.
    #[cfg(not(feature = "btf"))]
    pub(crate) const NR_OFFSET: usize = core::mem::offset_of!(PtRegs, orig_ax);

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
        pub(crate) fn call_args(&self, _compat: bool) -> [u64; 6] {
            let [_, b, c, d, e, f, ..] = self.regs;
            [self.orig_x0, b, c, d, e, f]
        }

        /// The number of the call.
        #[inline(always)]
        pub(crate) fn call_nr(&self) -> i64 {
            i64::from(self.syscallno)
        }
    }

    /// Where the arguments lie.
    #[cfg(not(feature = "btf"))]
    pub(crate) const ARG_OFFSETS: [usize; 6] =
        [core::mem::offset_of!(PtRegs, orig_x0), 8, 16, 24, 32, 40];

    /// Where the number lies.
    #[cfg(not(feature = "btf"))]
    pub(crate) const NR_OFFSET: usize = core::mem::offset_of!(PtRegs, syscallno);

    #[cfg(feature = "btf")]
    /// `_TIF_32BIT`, arch/arm64/include/asm/thread_info.h.
    pub(crate) const COMPAT_BIT: u32 = 1 << 22;
}

#[cfg(feature = "btf")]
pub(crate) use arch::COMPAT_BIT;
pub(crate) use arch::PtRegs;

/// What a system call needs of the registers.
pub(crate) trait CallRegisters {
    /// The arguments; those of a 32-bit call are in other registers.
    fn args(&self, compat: bool) -> [u64; 6];
    /// The number of the call.
    fn nr(&self) -> i64;
}

impl CallRegisters for PtRegs {
    #[inline(always)]
    fn args(&self, compat: bool) -> [u64; 6] {
        self.call_args(compat)
    }

    #[inline(always)]
    fn nr(&self) -> i64 {
        self.call_nr()
    }
}

/// The registers copied from where a program without BTF may not load them: only
/// those that count, because the stack of a program is 512 bytes.
#[cfg(not(feature = "btf"))]
pub(crate) struct CopiedRegisters {
    args: [u64; 6],
    nr: i64,
}

#[cfg(not(feature = "btf"))]
impl CopiedRegisters {
    /// Reads them at `regs`, a `struct pt_regs` of the kernel.
    ///
    /// # Safety
    /// None really: the helper checks every address.
    #[inline(always)]
    pub(crate) unsafe fn read(regs: *const PtRegs) -> CopiedRegisters {
        // SAFETY: the helper checks every address.
        unsafe {
            let register = |offset: usize| crate::probes::read_field(regs.cast(), offset as u32);
            let nr: i32 = crate::probes::read_field(regs.cast(), arch::NR_OFFSET as u32);
            CopiedRegisters { args: arch::ARG_OFFSETS.map(register), nr: i64::from(nr) }
        }
    }
}

#[cfg(not(feature = "btf"))]
impl CallRegisters for CopiedRegisters {
    #[inline(always)]
    fn args(&self, _compat: bool) -> [u64; 6] {
        self.args
    }

    #[inline(always)]
    fn nr(&self) -> i64 {
        self.nr
    }
}

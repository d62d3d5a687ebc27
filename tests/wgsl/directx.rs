//! The DirectX Shader Compiler that `scripts/oracles` fetches, called through its COM interfaces.
//!
//! Releases before 1.7.2212 have two destructors in every table of virtual functions outside
//! Windows, behind the three functions of `IUnknown`; the fetched library is one of them.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use libloading::Library;

use super::Check;
use super::backends::Hlsl;

#[repr(C)]
struct Guid(u32, u16, u16, [u8; 8]);

const CLSID_LIBRARY: Guid =
    Guid(0x6245_d6af, 0x66e0, 0x48fd, [0x80, 0xb4, 0x4d, 0x27, 0x17, 0x96, 0x74, 0x8c]);
const IID_LIBRARY: Guid =
    Guid(0xe520_4dc7, 0xd18c, 0x4c3c, [0xbd, 0xfb, 0x85, 0x16, 0x73, 0x98, 0x0f, 0xe7]);
const CLSID_COMPILER: Guid =
    Guid(0x73e2_2d93, 0xe6ce, 0x47f3, [0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0]);
const IID_COMPILER: Guid =
    Guid(0x8c21_0bf3, 0x011f, 0x4422, [0x8d, 0x70, 0x6f, 0x9a, 0xcb, 0x8d, 0xb6, 0x17]);

/// Places in the tables of virtual functions.
const RELEASE: usize = 2;
const FIRST: usize = 5;
const CREATE_BLOB_FROM_PINNED: usize = FIRST + 3;
const COMPILE: usize = FIRST;
const GET_STATUS: usize = FIRST;
const GET_ERRORS: usize = FIRST + 2;
const GET_POINTER: usize = FIRST;
const GET_SIZE: usize = FIRST + 1;

const UTF_8: u32 = 65_001;

type Object = *mut *const *const c_void;

/// A COM object, released when dropped.
struct Com(Object);

impl Com {
    /// # Safety
    /// `F` must be the type of the function at `place`.
    unsafe fn function<F: Copy>(&self, place: usize) -> F {
        // SAFETY: an object starts with the pointer to its table, and the caller knows the table.
        unsafe { std::mem::transmute_copy(&*(*self.0).add(place)) }
    }
}

impl Drop for Com {
    fn drop(&mut self) {
        // SAFETY: every object has `Release`.
        unsafe { self.function::<extern "C" fn(Object) -> u32>(RELEASE)(self.0) };
    }
}

pub struct DirectX {
    library: Com,
    compiler: Com,
}

type Create = unsafe extern "C" fn(*const Guid, *const Guid, *mut Object) -> i32;
type CreateBlob = extern "C" fn(Object, *const u8, u32, u32, *mut Object) -> i32;
type Compile = extern "C" fn(
    Object,
    Object,
    *const i32,
    *const i32,
    *const i32,
    *const *const i32,
    u32,
    *const c_void,
    u32,
    *const c_void,
    *mut Object,
) -> i32;

impl DirectX {
    /// `None` when it is not there.
    pub fn find() -> Option<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.oracles/libdxcompiler.so");
        // SAFETY: the library that scripts/oracles checked against its hash. It cannot be unloaded
        // while threads that used it live, so it never is.
        let library = Box::leak(Box::new(unsafe { Library::new(path) }.ok()?));
        // SAFETY: the exported function has this type.
        let create = unsafe { library.get::<Create>(b"DxcCreateInstance") }.ok()?;
        let instance = |class: &Guid, interface: &Guid| {
            let mut object = null_mut();
            // SAFETY: as above.
            let status = unsafe { create(class, interface, &mut object) };
            (status >= 0 && !object.is_null()).then_some(Com(object))
        };
        Some(DirectX {
            library: instance(&CLSID_LIBRARY, &IID_LIBRARY)?,
            compiler: instance(&CLSID_COMPILER, &IID_COMPILER)?,
        })
    }

    /// Compiles as wgpu does, to DXIL of shader model 6.2.
    pub fn compile(&self, hlsl: &Hlsl) -> Check {
        let (mut source, mut result) = (null_mut(), null_mut());
        let mut arguments = vec!["-HV", "2018"];
        if hlsl.text.contains("half") {
            arguments.push("-enable-16bit-types");
        }
        let arguments: Vec<Vec<i32>> = arguments.into_iter().map(wide).collect();
        let pointers: Vec<*const i32> =
            arguments.iter().map(|argument| argument.as_ptr()).collect();
        let (name, entry, target) = (wide("kernel"), wide(&hlsl.entry), wide("cs_6_2"));
        // SAFETY: the places and types are those of IDxcLibrary and IDxcCompiler; every pointer
        // outlives the calls.
        unsafe {
            let create: CreateBlob = self.library.function(CREATE_BLOB_FROM_PINNED);
            let text = hlsl.text.as_bytes();
            let status =
                create(self.library.0, text.as_ptr(), text.len() as u32, UTF_8, &mut source);
            assert!(status >= 0, "DXC takes no source: {status:#x}");
            let source = Com(source);
            let compile: Compile = self.compiler.function(COMPILE);
            let status = compile(
                self.compiler.0,
                source.0,
                name.as_ptr(),
                entry.as_ptr(),
                target.as_ptr(),
                pointers.as_ptr(),
                pointers.len() as u32,
                null(),
                0,
                null(),
                &mut result,
            );
            assert!(status >= 0, "DXC does not compile at all: {status:#x}");
        }
        verdict(&Com(result))
    }
}

/// What an IDxcOperationResult says.
fn verdict(result: &Com) -> Check {
    let (mut status, mut errors) = (0_i32, null_mut());
    // SAFETY: the places and types are those of IDxcOperationResult and IDxcBlob.
    unsafe {
        result.function::<extern "C" fn(Object, *mut i32) -> i32>(GET_STATUS)(
            result.0,
            &mut status,
        );
        if status >= 0 {
            return Ok(());
        }
        result.function::<extern "C" fn(Object, *mut Object) -> i32>(GET_ERRORS)(
            result.0,
            &mut errors,
        );
        let errors = Com(errors);
        let start = errors.function::<extern "C" fn(Object) -> *const u8>(GET_POINTER)(errors.0);
        let len = errors.function::<extern "C" fn(Object) -> usize>(GET_SIZE)(errors.0);
        let text = std::slice::from_raw_parts(start, len);
        Err(format!("DXC: {}", String::from_utf8_lossy(text)))
    }
}

/// A string of 32-bit characters, as `wchar_t` is outside Windows.
fn wide(text: &str) -> Vec<i32> {
    text.chars().map(|c| c as i32).chain([0]).collect()
}

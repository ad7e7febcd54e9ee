/**
 * The system calls that Node.js does not offer, through koffi. Everything in
 * this package that touches raw memory or descriptors goes through here.
 *
 * The prototypes are those of 64-bit Linux. Calls return -1 and leave
 * `errno()`; the helpers below throw instead.
 * @module
 */
import koffi from 'koffi';
import { getSystemErrorName } from 'node:util';

const libc = koffi.load('libc.so.6');

export const errno = () => koffi.errno();
export const EAGAIN = 11;
export const EINTR = 4;
export const EPIPE = 32;
export const ECONNRESET = 104;

/** A system call that failed. */
export class SystemError extends Error {
  name = 'SystemError';
  constructor(call, number) {
    let code = `errno ${number}`;
    try {
      code = getSystemErrorName(-number);
    } catch {
      // a number that Node.js has no name for
    }
    super(`${call}: ${code}`);
    this.code = code;
    this.errno = number;
  }
}

function check(call, result) {
  if (result < 0) throw new SystemError(call, errno());
  return result;
}

export const recvmsg = libc.func('long recvmsg(int fd, void *message, int flags)');
export const sendmsg = libc.func('long sendmsg(int fd, void *message, int flags)');
export const send = libc.func('long send(int fd, void *bytes, size_t length, int flags)');
export const poll = libc.func('int poll(void *fds, unsigned long count, int timeout)');
/** Lets another process have this core, if one wants it. */
export const yieldCore = libc.func('int sched_yield()');
/** Ends the process at once: no exit handlers, no flushing. */
export const exitNow = libc.func('void _exit(int status)');

const rawMmap = libc.func('intptr_t mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)');
const rawMunmap = libc.func('int munmap(intptr_t address, size_t length)');
const rawMemfdCreate = libc.func('int memfd_create(const char *name, unsigned int flags)');
const rawFtruncate = libc.func('int ftruncate(int fd, int64_t size)');
const rawFcntl = libc.func('int fcntl(int fd, int command, int argument)');
const rawPread = libc.func('long pread(int fd, void *bytes, size_t length, int64_t offset)');
const rawClose = libc.func('int close(int fd)');
const rawFutex = libc.func('long syscall(long number, intptr_t word, int operation, uint32_t value, intptr_t timeout, intptr_t word2, uint32_t bits)');
const rawSocketpair = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

export const SEAL_SEAL = 1;
export const SEAL_SHRINK = 2;
export const SEAL_GROW = 4;
export const SEAL_WRITE = 8;
export const SEAL_FUTURE_WRITE = 16;

/**
 * Maps a whole file.
 * @returns {bigint} its address
 */
export function mmap(fd, size, writable) {
  const address = BigInt(rawMmap(null, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0));
  if (address === -1n) throw new SystemError(`mmap of ${size} bytes`, errno());
  return address;
}

export const munmap = (address, size) => check('munmap', rawMunmap(address, size));
export const ftruncate = (fd, size) => check('ftruncate', rawFtruncate(fd, size));
export const close = (fd) => check('close', rawClose(fd));
export const addSeals = (fd, seals) => check('fcntl(F_ADD_SEALS)', rawFcntl(fd, F_ADD_SEALS, seals));
export const getSeals = (fd) => check('fcntl(F_GET_SEALS)', rawFcntl(fd, F_GET_SEALS, 0));

/** An empty memfd that takes seals and can never be executed. */
export function memfdCreate(name) {
  const flags = 1 | 2; // MFD_CLOEXEC | MFD_ALLOW_SEALING
  const fd = rawMemfdCreate(name, flags | 8); // MFD_NOEXEC_SEAL, since Linux 6.3
  return fd >= 0 ? fd : check('memfd_create', rawMemfdCreate(name, flags));
}

/** Reads exactly bytes.length bytes; memory of a sealed segment has no short reads. */
export function pread(fd, bytes, length, offset) {
  const n = check('pread', rawPread(fd, bytes, length, offset));
  if (n !== length) throw new Error(`pread: ${n} of ${length} bytes at ${offset}`);
}

/** The two ends of a Unix stream socket, close-on-exec. */
export function socketpair() {
  const fds = [0, 0];
  check('socketpair', rawSocketpair(1, 1 | 0x80000, 0, fds));
  return fds;
}

const SYS_FUTEX = { x64: 202, arm64: 98, riscv64: 98, loong64: 98 }[process.arch];
const FUTEX_WAIT_BITSET = 9;
const FUTEX_WAKE_BITSET = 10;
const ALL_WAITERS = 2 ** 31 - 1;

/** Whether the number of futex(2) is known on this machine. */
export const hasFutex = SYS_FUTEX !== undefined;

/** Wakes all who wait on a word for one of the bits, in any process. */
export const futexWake = (address, bits) => rawFutex(SYS_FUTEX, address, FUTEX_WAKE_BITSET, ALL_WAITERS, 0, 0, bits);

const deadline = new BigInt64Array(2); // a struct timespec
const deadlineAddress = koffi.address(deadline);

/**
 * Blocks this thread while a word is value, until a wake for one of the bits,
 * or until a time of process.hrtime.bigint(). It may also return for no reason.
 */
export function futexWait(address, value, bits, until) {
  deadline[0] = until / 1_000_000_000n;
  deadline[1] = until % 1_000_000_000n;
  rawFutex(SYS_FUTEX, address, FUTEX_WAIT_BITSET, value, deadlineAddress, 0, bits);
}

/** V8 and koffi take no ArrayBuffer above this; longer views abort the process. */
const MAX_VIEW = 2 ** 32 - 1;

/**
 * Views memory without a copy. The view dangles once the memory is unmapped,
 * so callers keep it no longer than the mapping.
 * @param {bigint} address
 */
export function view(address, length) {
  if (length > MAX_VIEW) throw new RangeError(`a view of ${length} bytes is over the limit of ${MAX_VIEW}`);
  return Buffer.from(koffi.view(address, length));
}

/** Address of an ArrayBuffer's memory, which does not move while it is alive. */
export const addressOf = (bytes) => BigInt(koffi.address(bytes));

/**
 * Calls back from the event loop whenever fd can be read.
 * @param {(error: number) => void} callback gets 0, or another number when it
 *   is called for the last time: the peer has closed its end without reading all
 */
export const whenReadable = (fd, callback) => koffi.node.poll(fd, { readable: true, disconnect: true }, callback);

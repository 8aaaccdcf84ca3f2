/* tests/emulation/fibers.cpp - the threads of a block that wait for each other.
 *
 * Each thread has a stack and is left where it waits.  Warp after warp runs as far as it can, and then the block is let
 * go; where that is not possible the threads have gone separate ways, which is undefined on a GPU and ends the program
 * here. */
#include "internal.h"
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__) || defined(EMULATION_UCONTEXT)
#include <ucontext.h>
#endif

namespace emulation
{
#ifdef __SANITIZE_ADDRESS__
enum { STACK = 256 << 10, PAGE = 4096 };
#else
enum { STACK = 64 << 10, PAGE = 4096 };
#endif

enum class state { READY, BLOCK, WARP_WAIT, DONE };

struct fiber {
#if !defined(__x86_64__) || defined(EMULATION_UCONTEXT)
    ucontext_t context;
#endif
    void *top; /* saved stack pointer */
    char *stack;
    void *fake_stack; /* the address sanitizer's */
    uint3 index;
    enum state state;
    site where;
    unsigned mask;
    bool exchanges;
    uint64_t value; /* handed out, then what was received */
    int from;
};

static fiber scheduler;
static std::vector<fiber *> &fibers = *new std::vector<fiber *>; /* never ended, as the stacks */
static fiber *current;
static const std::function<void()> *current_body;

/* ---- switching stacks ---- */

#if defined(__x86_64__) && !defined(EMULATION_UCONTEXT)
/* Save the registers that a call keeps and the stack pointer in *save, and go on at `restore`, saved so before:
 * swapcontext does the same with a system call each time, which is most of a kernel's run time. */
extern "C" void emulation_switch(void **save, void *restore);
asm(".text\n"
    ".type emulation_switch,@function\n"
    "emulation_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emulation_switch, .-emulation_switch\n");

static void switch_stacks(fiber *from, fiber *to)
{
    emulation_switch(&from->top, to->top);
}

static void prepare(fiber *f, void (*entry)())
{
    void **top = (void **)(void *)(f->stack + PAGE + STACK);

    *--top = NULL; /* where entry, which never returns, would return to; keeps the stack aligned as at a call */
    *--top = (void *)entry;
    top -= 6; /* the registers */
    f->top = top;
}
#else
static void switch_stacks(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}

static void prepare(fiber *f, void (*entry)())
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack + PAGE;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, entry, 0);
}
#endif

#ifdef __SANITIZE_ADDRESS__
static const void *host_stack;
static size_t host_stack_bytes;

static void enter_fiber(fiber *f)
{
    __sanitizer_start_switch_fiber(&scheduler.fake_stack, f->stack + PAGE, STACK);
    switch_stacks(&scheduler, f);
    __sanitizer_finish_switch_fiber(scheduler.fake_stack, NULL, NULL);
}

static void arrive(fiber *f)
{
    __sanitizer_finish_switch_fiber(f->fake_stack, &host_stack, &host_stack_bytes);
}

static void leave_fiber(fiber *f)
{
    __sanitizer_start_switch_fiber(&f->fake_stack, host_stack, host_stack_bytes);
    switch_stacks(f, &scheduler);
    arrive(f);
}
#else
static void enter_fiber(fiber *f)
{
    switch_stacks(&scheduler, f);
}

static void arrive(fiber *) {}

static void leave_fiber(fiber *f)
{
    switch_stacks(f, &scheduler);
}
#endif

/* What a fiber does for ever: one thread of one block after the other. */
static void live()
{
    fiber *self = current;

    arrive(self);
    for (;;) {
        (*current_body)();
        self->state = state::DONE;
        leave_fiber(self);
    }
}

static void need(unsigned threads)
{
    while (fibers.size() < threads) {
        fiber *f = new fiber();
        void *stack =
            mmap(NULL, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE) != 0) {
            die("no memory for the stack of thread %zu", fibers.size());
        }
        f->stack = (char *)stack;
        prepare(f, live);
        fibers.push_back(f);
    }
}

/* ---- waiting ---- */

void wait_block(site where)
{
    need_fibers(where);
    current->where = where;
    current->state = state::BLOCK;
    leave_fiber(current);
}

static void wait_in_warp(site where, unsigned mask, bool exchanges)
{
    need_fibers(where);
    if ((mask >> lane() & 1) == 0) {
        die("%s:%d: lane %d waits for lanes %08x, of which it is none", where.file, where.line, lane(), mask);
    }
    current->where = where;
    current->mask = mask;
    current->exchanges = exchanges;
    current->state = state::WARP_WAIT;
    leave_fiber(current);
}

void wait_warp(site where, unsigned mask)
{
    wait_in_warp(where, mask, false);
}

uint64_t exchange(site where, unsigned mask, uint64_t value, int from)
{
    need_fibers(where);
    current->value = value;
    current->from = from;
    wait_in_warp(where, mask, true);
    return current->value;
}

static bool same_place(const site &a, const site &b)
{
    return a.file == b.file && a.line == b.line;
}

/* Are all lanes that `one` waits for at the same place? */
static bool warp_complete(const fiber *one, unsigned first, unsigned threads)
{
    for (unsigned i = 0; i < WARP; i++) {
        if ((one->mask >> i & 1) == 0) {
            continue;
        }
        const fiber *other = first + i < threads ? fibers[first + i] : NULL;

        if (other == NULL || other->state != state::WARP_WAIT || other->mask != one->mask ||
            !same_place(other->where, one->where)) {
            return false;
        }
    }
    return true;
}

static void let_warp_go(const char *kernel, unsigned mask, unsigned first)
{
    uint64_t handed[WARP] = {};

    for (unsigned i = 0; i < WARP; i++) {
        if (mask >> i & 1) {
            handed[i] = fibers[first + i]->value;
        }
    }
    for (unsigned i = 0; i < WARP; i++) {
        if ((mask >> i & 1) == 0) {
            continue;
        }
        fiber *f = fibers[first + i];

        if (f->exchanges && (f->from < 0 || f->from >= WARP || (mask >> f->from & 1) == 0)) {
            die("%s at %s:%d: lane %u asks lane %d, which does not take part", kernel, f->where.file, f->where.line, i,
                f->from);
        }
        f->value = f->exchanges ? handed[f->from] : 0;
        f->state = state::READY;
    }
}

/* Run the threads of the warp from `first` on until none can go on: this warp alone, so that it runs ahead of the others
 * and spoils what they have yet to read. */
static void run_warp(const char *kernel, unsigned first, unsigned threads, const uint8_t *lanes)
{
    bool again = true;

    while (again) {
        for (int i = 0; i < WARP; i++) {
            fiber *f = first + lanes[i] < threads ? fibers[first + lanes[i]] : NULL;

            if (f != NULL && f->state == state::READY) {
                current = f;
                thread_index = f->index;
                enter_fiber(f);
            }
        }
        again = false;
        for (unsigned t = first; t < first + WARP && t < threads; t++) {
            if (fibers[t]->state == state::WARP_WAIT && warp_complete(fibers[t], first, threads)) {
                let_warp_go(kernel, fibers[t]->mask, first);
                again = true;
            }
        }
    }
}

[[noreturn]] static void tell_divergence(const char *kernel, unsigned threads)
{
    unsigned done = 0;
    const fiber *example = NULL;
    unsigned which = 0;

    for (unsigned t = 0; t < threads; t++) {
        done += fibers[t]->state == state::DONE;
        if (fibers[t]->state != state::DONE && example == NULL) {
            example = fibers[t];
            which = t;
        }
    }
    die("%s diverges in block (%u, %u, %u): %u of %u threads have ended, thread %u waits at %s:%d for others that "
        "never "
        "come there",
        kernel, block_index.x, block_index.y, block_index.z, done, threads, which, example->where.file,
        example->where.line);
}

/* When no warp can go on: true where the block is done; lets it go where all wait at one barrier. */
static bool block_done(const char *kernel, unsigned threads)
{
    unsigned done = 0;

    for (unsigned t = 0; t < threads; t++) {
        done += fibers[t]->state == state::DONE;
    }
    if (done == threads) {
        return true;
    }
    for (unsigned t = 0; t < threads; t++) {
        if (fibers[t]->state != state::BLOCK || !same_place(fibers[t]->where, fibers[0]->where)) {
            tell_divergence(kernel, threads);
        }
    }
    for (unsigned t = 0; t < threads; t++) {
        fibers[t]->state = state::READY;
    }
    return false;
}

void run_block_with_fibers(const char *kernel, unsigned threads, const std::vector<uint8_t> &warps,
                           const std::vector<uint8_t> &lanes, const std::function<void()> &body)
{
    need(threads);
    current_body = &body;
    for (unsigned t = 0; t < threads; t++) {
        set_thread(t);
        fibers[t]->index = thread_index;
        fibers[t]->state = state::READY;
    }
    do {
        for (uint8_t warp : warps) {
            run_warp(kernel, (unsigned)warp * WARP, threads, lanes.data());
        }
    } while (!block_done(kernel, threads));
}
} // namespace emulation

/* tests/emulation/streams.cpp - streams, events and copies.  Work waits in its stream until somebody waits for it. */
#include "internal.h"
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <sched.h>
#include <set>
#include <vector>

using namespace emulation;

typedef std::lock_guard<std::recursive_mutex> locked;

/* A record of an event in a stream. */
struct marker {
    cudaStream_t stream;
    bool done;
    struct timespec at;
};

struct item {
    uint64_t sequence; /* the order of the calls, over all streams */
    std::string name;
    std::function<bool()> run;
    std::shared_ptr<marker> wait; /* to be done before; NULL: nothing */
};

struct CUstream_st {
    int device;
    bool blocking; /* orders itself with the default stream */
    bool running;
    std::deque<item> queue;
};

struct CUevent_st {
    bool timing;
    std::shared_ptr<marker> latest;
};

enum class step { EMPTY, DONE, WAITING };

static uint64_t calls = 0;
static std::set<cudaStream_t> &streams = *new std::set<cudaStream_t>; /* never ended: see lock() */
static cudaStream_t default_streams[MOST_DEVICES];

static cudaStream_t new_stream(int device, bool blocking)
{
    cudaStream_t stream = new CUstream_st{device, blocking, false, {}};

    streams.insert(stream);
    return stream;
}

/* The stream itself, the default stream for NULL; NULL where there is no such stream. */
static cudaStream_t known(cudaStream_t stream)
{
    if (stream == NULL) {
        cudaStream_t *own = &default_streams[current_device()];

        if (*own == NULL) {
            *own = new_stream(current_device(), true);
        }
        return *own;
    }
    return streams.count(stream) != 0 ? stream : NULL;
}

static step step_stream(cudaStream_t stream);

/* Carry out what the default stream's rule puts before `next` of `stream`: older work of the default stream, or of all
 * blocking streams where this is the default stream. */
static step step_older(cudaStream_t stream, const item &next)
{
    const cudaStream_t own = default_streams[stream->device];

    if (!stream->blocking || own == NULL) {
        return step::EMPTY;
    }
    for (cudaStream_t other : streams) {
        const bool matters =
            other != stream && other->device == stream->device && other->blocking && (stream == own || other == own);

        if (matters && !other->queue.empty() && other->queue.front().sequence < next.sequence) {
            return step_stream(other);
        }
    }
    return step::EMPTY;
}

/* Carry out one piece of work towards emptying `stream`. */
static step step_stream(cudaStream_t stream)
{
    if (stream->running) {
        die("%s waits for the stream it runs on", stream->queue.front().name.c_str());
    }
    if (stream->queue.empty()) {
        return step::EMPTY;
    }
    const item &next = stream->queue.front();

    if (!lost()) {
        const step older = step_older(stream, next);

        if (older != step::EMPTY) {
            return older;
        }
        if (next.wait != NULL && !next.wait->done) {
            return step_stream(next.wait->stream);
        }
        stream->running = true;
        open_memory();
        const bool done = next.run();
        close_memory();
        stream->running = false;
        if (!done) {
            return step::WAITING;
        }
    }
    stream->queue.pop_front();
    return step::DONE;
}

/* Work until `finished`; the lock is let go while the work of others is awaited. */
static void work_until(cudaStream_t stream, const std::function<bool()> &finished)
{
    open_memory();
    while (!finished()) {
        const step made = step_stream(stream);

        if (made == step::EMPTY) {
            break;
        }
        if (made == step::WAITING) {
            lock().unlock();
            sched_yield();
            lock().lock();
        }
    }
    close_memory();
}

static void drain(cudaStream_t stream)
{
    work_until(stream, [stream]() { return stream->queue.empty(); });
}

namespace emulation
{
void drain_all()
{
    const std::vector<cudaStream_t> all(streams.begin(), streams.end());

    for (cudaStream_t stream : all) {
        drain(stream);
    }
}

void drain_default()
{
    drain(known(NULL));
}

cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<bool()> run)
{
    cudaStream_t to = known(stream);

    if (to == NULL || to->device != current_device()) {
        return cudaErrorInvalidResourceHandle;
    }
    to->queue.push_back({calls++, name, std::move(run), nullptr});
    return cudaSuccess;
}
} // namespace emulation

/* ---- work of stand-ins ---- */

extern "C" void emulation_enqueue_polled(cudaStream_t stream, int (*run)(void *), const void *argument, size_t bytes)
{
    const locked held(lock());
    auto copy = std::make_shared<std::vector<max_align_t>>(bytes / sizeof(max_align_t) + 1);

    if (bytes > 0) {
        memcpy(copy->data(), argument, bytes);
    }
    if (enqueue(stream, "a stand-in's work", [run, copy]() { return run(copy->data()) != 0; }) != cudaSuccess) {
        die("work for a stream that does not exist or is another device's");
    }
}

namespace
{
struct plain_work {
    void (*run)(void *);
    std::vector<max_align_t> argument;
};
} // namespace

extern "C" void emulation_enqueue(cudaStream_t stream, void (*run)(void *), const void *argument, size_t bytes)
{
    const locked held(lock());
    auto work =
        std::make_shared<plain_work>(plain_work{run, std::vector<max_align_t>(bytes / sizeof(max_align_t) + 1)});

    if (bytes > 0) {
        memcpy(work->argument.data(), argument, bytes);
    }
    if (enqueue(stream, "a stand-in's work", [work]() {
            work->run(work->argument.data());
            return true;
        }) != cudaSuccess) {
        die("work for a stream that does not exist or is another device's");
    }
}

extern "C" cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *userData)
{
    const locked held(lock());
    cudaError_t error = enter("cudaLaunchHostFunc");

    if (error == cudaSuccess) {
        error = enqueue(stream, "cudaLaunchHostFunc", [fn, userData]() {
            fn(userData);
            return true;
        });
    }
    return leave(error);
}

/* ---- streams ---- */

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned int flags)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaStreamCreateWithFlags", cudaErrorMemoryAllocation);

    *pStream = error == cudaSuccess ? new_stream(current_device(), flags != cudaStreamNonBlocking) : NULL;
    return leave(error);
}

extern "C" cudaError_t cudaStreamCreate(cudaStream_t *pStream)
{
    return cudaStreamCreateWithFlags(pStream, cudaStreamDefault);
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaStreamDestroy");

    if (stream == NULL || known(stream) == NULL) {
        return leave(cudaErrorInvalidResourceHandle);
    }
    drain(stream);
    streams.erase(stream);
    delete stream;
    return leave(lost() ? error : cudaSuccess);
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaStreamSynchronize");

    if (error != cudaSuccess) {
        return leave(error);
    }
    if (known(stream) == NULL) {
        return leave(cudaErrorInvalidResourceHandle);
    }
    drain(known(stream));
    return outcome();
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaStreamQuery");

    if (error != cudaSuccess) {
        return leave(error);
    }
    if (known(stream) == NULL) {
        return leave(cudaErrorInvalidResourceHandle);
    }
    if (step_stream(known(stream)) == step::EMPTY) {
        return cudaSuccess;
    }
    return lost() ? outcome() : leave(cudaErrorNotReady);
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaDeviceSynchronize");

    if (error != cudaSuccess) {
        return leave(error);
    }
    drain_all();
    check_guards();
    return outcome();
}

/* ---- events ---- */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaEventCreateWithFlags", cudaErrorMemoryAllocation);

    *event = error == cudaSuccess ? new CUevent_st{(flags & cudaEventDisableTiming) == 0, nullptr} : NULL;
    return leave(error);
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaEventDestroy");

    if (event == NULL) {
        return leave(cudaErrorInvalidResourceHandle);
    }
    delete event;
    return leave(lost() ? error : cudaSuccess);
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const locked held(lock());
    cudaError_t error = enter("cudaEventRecord");

    if (error == cudaSuccess) {
        auto mark = std::make_shared<marker>(marker{known(stream), false, {}});

        error = enqueue(stream, "cudaEventRecord", [mark]() {
            clock_gettime(CLOCK_MONOTONIC, &mark->at);
            return mark->done = true;
        });
        if (error == cudaSuccess) {
            event->latest = mark;
        }
    }
    return leave(error);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaEventQuery");

    if (error != cudaSuccess) {
        return leave(error);
    }
    if (event->latest == NULL || event->latest->done) {
        return cudaSuccess;
    }
    (void)step_stream(event->latest->stream);
    return lost() ? outcome() : leave(cudaErrorNotReady);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaEventSynchronize");

    if (error != cudaSuccess) {
        return leave(error);
    }
    const std::shared_ptr<marker> mark = event->latest;

    if (mark != NULL && !mark->done) {
        work_until(mark->stream, [mark]() { return mark->done; });
    }
    return outcome();
}

extern "C" cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    const locked held(lock());
    const cudaError_t error = enter("cudaEventElapsedTime");

    *ms = 0.0f;
    if (error != cudaSuccess) {
        return leave(error);
    }
    if (!start->timing || !end->timing || start->latest == NULL || end->latest == NULL) {
        return leave(cudaErrorInvalidResourceHandle);
    }
    if (!start->latest->done || !end->latest->done) {
        return leave(cudaErrorNotReady);
    }
    *ms = (float)((double)(end->latest->at.tv_sec - start->latest->at.tv_sec) * 1e3 +
                  (double)(end->latest->at.tv_nsec - start->latest->at.tv_nsec) * 1e-6);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    const locked held(lock());
    cudaError_t error = enter("cudaStreamWaitEvent");

    if (error == cudaSuccess && event->latest != NULL && !event->latest->done) {
        error = enqueue(stream, "cudaStreamWaitEvent", []() { return true; });
        if (error == cudaSuccess) {
            known(stream)->queue.back().wait = event->latest;
        }
    }
    return leave(error);
}

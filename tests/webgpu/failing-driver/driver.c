// A Vulkan driver that passes everything on to another, until a test makes it fail: it loses the device at the next
// submission once the file LOSE exists (which it removes), for as long as that device lives; and while the file FULL
// exists it has no memory for more than 8 MiB at once, and while WRONG exists it leaves every seventh computation out.
// Needs a linker and no headers.

extern void *dlopen(const char *, int);
extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern int access(const char *, int);
extern int unlink(const char *);
extern int strcmp(const char *, const char *);

typedef void (*function)(void);
typedef function (*address_of)(void *, const char *);
typedef int (*create_device)(void *, const void *, const void *, void **);
typedef int (*queue_submit)(void *, unsigned, const void *, unsigned long);
typedef int (*allocate_memory)(void *, const void *, const void *, void *);
typedef void (*dispatch)(void *, unsigned, unsigned, unsigned);

typedef struct { // VkMemoryAllocateInfo
  int type;
  const void *next;
  unsigned long size;
} allocation;

enum { out_of_device_memory = -2, device_lost = -4, now = 2 };
static const unsigned long most_when_full = 8 << 20;

static address_of real_device_address;
static create_device real_create;
static queue_submit real_submit;
static allocate_memory real_allocate;
static dispatch real_dispatch;
static int is_lost;
static unsigned dispatches;

static void *driver(const char *name) { return dlsym(dlopen(getenv("FAILING_DRIVER_REAL"), now), name); }

static int create(void *machine, const void *info, const void *allocator, void **device) {
  is_lost = 0;
  return real_create(machine, info, allocator, device);
}

static int submit(void *queue, unsigned count, const void *submits, unsigned long fence) {
  if (unlink(getenv("FAILING_DRIVER_LOSE")) == 0) is_lost = 1;
  return is_lost ? device_lost : real_submit(queue, count, submits, fence);
}

static int allocate(void *device, const void *info, const void *allocator, void *memory) {
  int is_full = access(getenv("FAILING_DRIVER_FULL"), 0) == 0;
  if (is_full && ((const allocation *)info)->size > most_when_full) return out_of_device_memory;
  return real_allocate(device, info, allocator, memory);
}

static void compute(void *commands, unsigned x, unsigned y, unsigned z) {
  if (++dispatches % 7 == 0 && access(getenv("FAILING_DRIVER_WRONG"), 0) == 0) return;
  real_dispatch(commands, x, y, z);
}

static function ours(const char *name, function real) {
  if (strcmp(name, "vkCreateDevice") == 0) return real_create = (create_device)real, (function)create;
  if (strcmp(name, "vkQueueSubmit") == 0) return real_submit = (queue_submit)real, (function)submit;
  if (strcmp(name, "vkAllocateMemory") == 0) return real_allocate = (allocate_memory)real, (function)allocate;
  if (strcmp(name, "vkCmdDispatch") == 0) return real_dispatch = (dispatch)real, (function)compute;
  return real;
}

static function device_address(void *device, const char *name) {
  return ours(name, real_device_address(device, name));
}

function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  function real = ((address_of)driver("vk_icdGetInstanceProcAddr"))(instance, name);
  if (real == 0 || strcmp(name, "vkGetDeviceProcAddr") != 0) return real == 0 ? 0 : ours(name, real);
  return real_device_address = (address_of)real, (function)device_address;
}

function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
  return ((address_of)driver("vk_icdGetPhysicalDeviceProcAddr"))(instance, name);
}

int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {
  return ((int (*)(unsigned *))driver("vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
}

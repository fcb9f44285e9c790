#include <ares.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
static int failed = 1;
static void done(void *arg, int status, int timeouts, struct ares_addrinfo *found) {
    puts(ares_strerror(status));
    failed = status != ARES_SUCCESS;
    if (found) ares_freeaddrinfo(found);
}
int main(int argc, char **argv) {
    ares_channel channel;
    struct ares_addrinfo_hints hints;
    memset(&hints, 0, sizeof hints);
    if (ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel)) return 2;
    ares_getaddrinfo(channel, argv[1], 0, &hints, done, 0);
    for (;;) {
        fd_set in, out; FD_ZERO(&in); FD_ZERO(&out);
        int n = ares_fds(channel, &in, &out);
        if (!n) break;
        struct timeval t, *wait = ares_timeout(channel, 0, &t);
        select(n, &in, &out, 0, wait);
        ares_process(channel, &in, &out);
    }
    ares_destroy(channel);
    return failed;
}

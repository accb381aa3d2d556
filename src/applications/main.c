/* main.c: the watt command: picks the verb and turns its result into an exit
 * code. The verbs are listed in verbs.c. */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "applications/cli_internal.h"
#include "base/fault.h"
#include "base/mem.h"

/* A closed standard stream would hand its number to the next file we open, and
 * messages would then be written into that file. */
static void open_std_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);     /* so that use fails */
}

int main(int argc, char **argv)
{
    fault_env();
    open_std_streams();
    (void)signal(SIGXFSZ, SIG_IGN);     /* past a limit of file sizes writes fail, and are told */
    /* Only character types: numbers are read and written the same everywhere. */
    (void)setlocale(LC_CTYPE, "");
    return cli_main(argc, argv);
}

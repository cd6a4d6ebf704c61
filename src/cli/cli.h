/*
 * cli.h - the commands of the program, one function and one file each.
 *
 * argv[0] is the command's name. The result is the exit code of the process.
 */
#ifndef CLI_H
#define CLI_H

int cli_check(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_upgrade(int argc, char **argv);

#endif

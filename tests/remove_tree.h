/* remove_tree.h: removes a folder that a test made, with everything in it. Follows no link. */
#ifndef TESTS_REMOVE_TREE_H
#define TESTS_REMOVE_TREE_H

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

static inline int remove_tree_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* 0, or -1 when something stays. */
static inline int remove_tree(const char *path)
{
    return nftw(path, remove_tree_entry, 8, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -1;
}

#endif

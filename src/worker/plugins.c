/*
 * plugins.c - devices by name.
 */
#include "worker/plugins.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define BUILT_IN(name) extern const struct ob_plugin *const ob_plugin_##name;
#include "worker/built_in.h"
#undef BUILT_IN

static const struct ob_plugin *const *const built_in[] = {
#define BUILT_IN(name) &ob_plugin_##name,
#include "worker/built_in.h"
#undef BUILT_IN
};

const struct ob_plugin *plugin_built_in(unsigned i)
{
    return i < sizeof built_in / sizeof *built_in ? *built_in[i] : NULL;
}

static const struct ob_plugin *load(const char *path, char *why, size_t space)
{
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!file) {
        snprintf(why, space, "%s", dlerror());
        return NULL;
    }
    const uint32_t *abi = dlsym(file, "ob_plugin_abi");
    const struct ob_plugin *const *plugin = dlsym(file, "ob_plugin");
    if (!abi || !plugin || !*plugin)
        snprintf(why, space, "%s: holds no outboard plugin", path);
    else if (*abi != OB_ABI)
        snprintf(why, space, "%s: made for plugin interface %u, this program has %u", path, *abi,
                 OB_ABI);
    else
        return *plugin;
    dlclose(file);
    return NULL;
}

const struct ob_plugin *plugin_find(const char *name, char *why, size_t space)
{
    const struct ob_plugin *plugin;

    if (strchr(name, '/'))
        return load(name, why, space);
    for (unsigned i = 0; (plugin = plugin_built_in(i)); i++)
        if (strcmp(plugin->name, name) == 0)
            return plugin;
    snprintf(why, space, "%s: no such device (outboard serve --list shows those there are)", name);
    return NULL;
}

//! The plugin interface of Moorline. Empty until plugins are loaded: nothing here is stable yet.

// Pins the Gitea that build.sh compiles. The module is not a library: build.sh builds it in its own folder, with its
// own go.mod and go.sum, so that nothing but its checksum is needed here.
module moorline.test/interop/providers/gitea

go 1.24

require code.gitea.io/gitea v1.26.0

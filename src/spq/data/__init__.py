"""Collections of pictures, decoding and protocols. May import only `common`, `config` and `errors`."""

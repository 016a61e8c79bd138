"""Collections of pictures, decoding, protocols. Imports only `common`, `config` and `errors`, as every folder may."""

from spq.cli.main import main

main()

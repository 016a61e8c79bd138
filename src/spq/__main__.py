from spq.app.cli import main

main()

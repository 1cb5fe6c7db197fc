"""`unlabeled report`: runs as one HTML page that needs no network. `page.build` puts it together; the other files each make
one kind of thing that it shows."""

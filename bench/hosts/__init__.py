"""A test bed of hosts on one machine: network namespaces with an address each, and Footfall spread over them."""
